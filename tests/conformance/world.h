// World: a whole server in this process, with a scripted model behind a worker
// in a thread, for one case.
//
// Threads: the server's loop has its own; all methods are for the test's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/routes.h"
#include "base/clock.h"
#include "case_file.h"
#include "fetch/testing/file_server.h"
#include "http/server.h"
#include "library/library.h"
#include "llama/scripted_backend.h"
#include "models/file_facts.h"
#include "net/loop.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "testing/gguf_writer.h"
#include "worker/thread_launcher.h"

namespace hearth::conformance {

// Holds computing or loading back until the case lets it go on.
class Gate {
public:
    void close();
    void arm();     // the next trip() closes it
    void trip();
    void open();    // and disarms it
    void retire();  // opens it; close() has no effect any more
    void pass();    // blocks while closed
    [[nodiscard]] bool holds();  // somebody is blocked

private:
    std::mutex mutex_;
    std::condition_variable opened_;
    bool closed_ = false;
    bool armed_ = false;
    bool retired_ = false;
    unsigned blocked_ = 0;
};

// The settings of a case: see README.md.
struct Settings {
    llama::ScriptedOptions model;
    std::vector<std::string> model_names{"scripted"};  // id, then aliases
    serving::PoolOptions pool;
    http::Options http;
    api::Options api;
    std::uint64_t hold_at = UINT64_MAX;  // the decode before which the gate closes by itself, once
    std::uint64_t fail_at = UINT64_MAX;  // the decode that fails
    std::string load_error;
    bool hold_load = false;
    bool no_model = false;
    bool lazy = false;
    std::shared_ptr<modelfile::Definition const> definition;  // what the model is beside its weights
    std::uint64_t memory_cost = 0;  // what the model is thought to take
    bool library = false;  // a folder of models beside the given one: README.md says which
    std::vector<std::string> allowed_models;
    bool open = true;  // the server is this machine's alone
    bool file = false;  // the model has a GGUF file, of which clients are told
    bool prefix_cache = false;  // cases that do not speak of it stay independent of one another
    std::vector<std::string> public_prefixes;   // system messages that tenants share
    std::chrono::milliseconds patience{10000};  // the longest a step waits for what it wants; then the case fails

    // Throws std::runtime_error for what it does not know.
    static Settings parse(std::vector<Step> const& steps);
};

class World {
public:
    // Returns once the model is ready, has failed, or is held back.
    explicit World(Settings settings);
    ~World();
    World(World const&) = delete;
    World& operator=(World const&) = delete;

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] std::chrono::milliseconds patience() const { return settings_.patience; }

    void hold() { gate_.close(); }
    void release();
    void kill_worker();
    void drain();

    // Blocks until the number has that value: running, waiting, inside, restarts
    // or kv_used of the model; held or ready (0 or 1); exchanges of the server. Throws
    // when patience is over, naming the last value.
    void await(std::string_view name, std::uint64_t value);

private:
    template <typename Work>
    auto on_loop(Work work) -> decltype(work());
    [[nodiscard]] std::uint64_t observe(std::string_view name);
    worker::BackendFactory backend_factory();
    void start();
    void start_library();
    void stop();
    void wait_until_settled();

    Settings settings_;
    SteadyClock clock_;
    Gate gate_;
    Gate load_gate_;
    bool draining_ = false;  // the loop's
    std::unique_ptr<telemetry::Log> log_ = telemetry::make_null_log();
    telemetry::Registry metrics_;
    std::unique_ptr<worker::ThreadLauncher> launcher_;
    std::unique_ptr<net::Loop> loop_;
    models::testing::ScratchFolder folder_;
    models::testing::ScratchFolder data_;  // of the library
    std::unique_ptr<fetch::test::FileServer> hub_;  // gives nothing to anybody
    std::unique_ptr<models::FactsReader> facts_;
    std::unique_ptr<serving::Pool> pool_;
    std::unique_ptr<library::Library> library_;  // null: none
    std::unique_ptr<api::Services> services_;
    std::unique_ptr<http::Server> server_;
    std::uint16_t port_ = 0;
    std::thread thread_;
};

}  // namespace hearth::conformance
