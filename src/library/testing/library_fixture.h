// What the tests of the library share: a folder of tiny models, a pool that starts no
// workers, and a library over both.
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "library/library.h"
#include "modelfile/definition.h"
#include "serving/launcher.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library::testing {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// Models here are lazy and nobody asks them anything.
class NoLauncher final : public serving::Launcher {
public:
    Result<std::unique_ptr<serving::WorkerHandle>> launch(serving::ModelSpec const&) override {
        return Error(Code::io, "no worker in this test");
    }
};

class LibraryTest : public ::testing::Test {
public:
    static constexpr Duration kPatience = 30s;

    void write(std::string const& name, std::string const& chat_template = "{{ messages }}") {
        // Whole under its name, as downloads are.
        auto const path = folder / name;
        std::ofstream(path + ".new", std::ios::binary)
            << models::testing::tiny_llama().text("tokenizer.chat_template", chat_template).build();
        fs::rename(path + ".new", path);
    }
    void place(std::string const& name, std::string const& bytes) {
        // Of no name that a library that starts takes for a leftover.
        std::ofstream(folder / (name + ".placing"), std::ios::binary) << bytes;
        fs::rename(folder / (name + ".placing"), folder / name);
    }
    // As if the model had been pulled as it should be; from nowhere that can be asked again.
    void note(std::string const& model, std::string const& bytes) {
        place(model + ".hearth.json", R"({"source": "", "files": [{"name": ")" + model + R"(.gguf", "size": )" +
                                          std::to_string(bytes.size()) + R"(, "sha256": ")" +
                                          digest::sha256_hex(bytes) + R"("}]})");
    }
    net::Task<void> until_damaged(std::string name, bool damaged) {
        for (;;) {
            auto const known = library->find(name);
            if (known && known->damage().empty() != damaged && !known->model->unsettled()) co_return;
            co_await loop.sleep(2ms);
        }
    }
    Options options() {
        Options out;
        out.folders = {folder.path()};
        out.data_folder = data.path();
        out.rescan = 200ms;  // should a change not be told
        out.judged_after = 1ms;
        out.metrics = &metrics;
        out.new_id = [this] { return "job" + std::to_string(++ids); };
        return out;
    }
    // Called on the library's thread.
    Result<serving::ModelSpec> spec_of(SpecOrder const& order) {
        ++specs;
        orders.push_back(order);
        if (on_spec) on_spec(order);
        serving::ModelSpec spec;
        spec.id = order.id;
        spec.path = order.weights.empty() ? order.path : order.weights;
        if (refused.contains(order.id)) return Error(Code::corrupt, "its adapter is broken");
        if (odd.contains(order.id)) spec.threads = 99;
        if (auto const from = made_from.find(order.id); from != made_from.end()) {
            auto definition = std::make_shared<modelfile::Definition>();
            definition->from = from->second;
            spec.definition = std::move(definition);
        }
        if (with_adapters.contains(order.id)) spec.variants = {{order.id, {{"/" + order.id + ".lora", 1}}, nullptr}};
        return spec;
    }
    void create(Options wanted) {
        auto created = Library::create(loop, *pool, *log, std::move(wanted),
                                       [this](SpecOrder const& order) { return spec_of(order); });
        ASSERT_TRUE(created) << created.error().message;
        library = *std::move(created);
    }
    void run(net::Task<void> test) {
        loop.spawn(guarded(std::move(test)));
        loop.spawn(watch());
        loop.run();
        EXPECT_TRUE(finished) << "the test did not end";
    }
    net::Task<void> until_found(std::string name, bool there) {
        while (library->find(name).has_value() != there) co_await loop.sleep(2ms);
    }
    std::vector<std::string> listed() {
        std::vector<std::string> names;
        for (auto const& known : library->list()) names.push_back(known.name);
        return names;
    }
    net::Task<void> leave_pool(std::string id) {
        static_cast<void>(pool->remove(id));
        while (pool->status(id)) co_await loop.sleep(2ms);
    }
    // As if the pool had swapped it, and let it go: the next open() is as that of the next process.
    net::Task<void> move_name(SwapWish wish) {
        auto swap = co_await library->prepare_swap(std::move(wish));
        if (!swap) co_return fail_here(swap.error().message);
        auto const id = swap->id;
        auto const kept = co_await library->remember_swap(*std::move(swap));
        EXPECT_TRUE(kept) << (kept ? "" : kept.error().message);
        co_await leave_pool(id);
    }
    static void fail_here(std::string const& why) { ADD_FAILURE() << why; }

    hearth::testing::TemporaryFolder folder, data;
    net::Loop loop;
    SteadyClock clock;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    telemetry::Registry metrics;
    NoLauncher launcher;
    std::unique_ptr<serving::Pool> pool = serving::Pool::create(loop, {}, launcher, clock, *log, metrics);
    std::unique_ptr<Library> library;
    int ids = 0;
    std::atomic<int> specs = 0;
    std::vector<SpecOrder> orders;  // the library's thread's: to be read when nothing is asked of it
    std::function<void(SpecOrder const&)> on_spec;  // on that thread; to be set before create()
    // Names of models that are not as others are: to be set before create().
    std::set<std::string> with_adapters, odd, refused;
    std::map<std::string, std::string> made_from;  // what a model's definition says
    bool finished = false;

private:
    net::Task<void> guarded(net::Task<void> test) {
        co_await std::move(test);
        finished = true;
        loop.stop();
    }
    net::Task<void> watch() {
        co_await loop.sleep(kPatience);
        loop.stop();
    }
};

}  // namespace hearth::library::testing
