// Puller: one model from where its reference says into a models folder.
//
// What `hearth pull` does in its own process and a pull job does on its thread.
//
// Threads:   all on the thread that calls run(), but for stop().
// Ownership: owns its loop; the callbacks are called inside run().
// Errors:    of fetch::pull() and the planning functions; `cancelled` after stop():
//            what was fetched is kept.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "fetch/client.h"
#include "fetch/downloader.h"
#include "fetch/sources/holdings.h"
#include "fetch/sources/note.h"
#include "fetch/sources/plan.h"
#include "fetch/sources/pull.h"
#include "fetch/sources/reference.h"
#include "net/loop.h"

namespace hearth::library {

// Error::param of what the source of a pull refuses, or the registry of a push: with `unsupported`.
inline constexpr std::string_view kRefused = fetch::kRefused;

// How this machine reaches others.
struct Network {
    fetch::ClientOptions client;
    fetch::DownloadOptions download;
    fetch::HubOptions hub;
};

struct PullOrder {
    fetch::Reference reference;
    std::string name;  // what to call it; empty: as its source does
    std::string folder;
    std::string sha256{};                 // what its one file has to have; empty: as its source says
    fetch::Holdings* holdings = nullptr;  // outlives run(); null: everything is fetched
    std::optional<fetch::Note> restore{};  // only what this says of the files is fetched, see fetch::hold_to()
};

class Puller {
public:
    struct Events {
        std::function<void(fetch::Plan const&)> planned;  // once it is known what comes
        fetch::PullListener progress;
    };

    Puller(Network network, PullOrder order, Events events);
    ~Puller();
    Puller(Puller const&) = delete;
    Puller& operator=(Puller const&) = delete;

    // Blocks until the model is there or cannot be. Once.
    [[nodiscard]] Result<fetch::Pulled> run();

    // Ends run() soon. Any thread, any number of times; a second call does not wait for
    // the last bytes to be synced.
    void stop();

    // For signals; to be used before run().
    [[nodiscard]] net::Loop& loop() { return loop_; }

private:
    [[nodiscard]] fetch::HubReference at_noted_revision(fetch::HubReference reference) const;
    [[nodiscard]] Status expect(fetch::Plan& plan) const;
    net::Task<Result<fetch::Plan>> plan();
    net::Task<void> pull();

    Network const network_;
    PullOrder const order_;
    Events const events_;
    net::Loop loop_;
    std::unique_ptr<fetch::Client> client_;
    std::unique_ptr<fetch::Downloader> downloader_;
    std::optional<Result<fetch::Pulled>> result_;
    bool planned_ = false;
    bool stopping_ = false;
};

}  // namespace hearth::library
