// Random arrivals, cancels, grants and failures, by seed, against a backend with
// hardly any cells. After every step the engine's books must equal the
// backend's; in the end every request has ended exactly once (Transcript checks
// the order of events) and nothing is held any more.
#include <random>

#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using testing::Driver;
using testing::Transcript;

class Simulation {
public:
    explicit Simulation(unsigned seed)
        : random_(seed), driver_(backend_options(), engine_options()), fails_(random_() % 3 == 0) {
        driver_.backend.on_decode = [this](auto) { return maybe_fail(400); };
        driver_.backend.on_save = [this] { return maybe_fail(100); };
        driver_.backend.on_restore = [this] { return maybe_fail(100); };
        driver_.backend.on_copy = [this] { return maybe_fail(100); };
    }

    struct Tally {
        std::uint64_t requests = 0;
        std::uint64_t failed = 0;
        std::uint64_t preemptions = 0;
        std::uint64_t drafted = 0;
        std::uint64_t accepted = 0;
        void operator+=(Tally const& more) {
            requests += more.requests;
            failed += more.failed;
            preemptions += more.preemptions;
            drafted += more.drafted;
            accepted += more.accepted;
        }
    };

    // Ends after `cancels` cancels.
    Tally run(int cancels) {
        while (cancels > 0 && !::testing::Test::HasFatalFailure()) {
            auto const action = random_() % 10;
            if (action < 2 && open_.size() < 20) arrive();
            if (action == 3 && !open_.empty()) {
                driver_.cancel(pick());
                --cancels;
            }
            if (action >= 4 && action < 7 && !open_.empty()) driver_.core.grant(pick(), random_() % 20);
            if (driver_.core.has_work()) driver_.step();
            forget_ended();
        }
        drain();
        auto const stats = driver_.core.stats();
        Tally tally{next_id_ - 1, 0, stats.preemptions_total, stats.drafted_total, stats.accepted_total};
        for (auto const& [id, transcript] : driver_.transcripts) tally.failed += transcript.failed ? 1 : 0;
        return tally;
    }

private:
    llama::ScriptedOptions backend_options() {
        llama::ScriptedOptions options;
        int const pieces = random_() % 2 == 0 ? 40 : 5;  // few pieces repeat soon, and are guessed ahead
        for (int i = 0; i < pieces; ++i)
            options.pieces.push_back(i % 7 == 0 ? "\xE2\x82" : i % 7 == 1 ? "\xAC" : "w" + std::to_string(i));
        options.repeat = random_() % 2 == 0;
        options.context_request = 60;
        options.kv_cells = static_cast<std::uint32_t>(50 + random_() % 200);
        options.sequences_max = static_cast<std::uint32_t>(2 + random_() % 8);
        options.sequences_kept = static_cast<std::uint32_t>(random_() % 8);
        options.batch_max = static_cast<std::uint32_t>(2 + random_() % 80);
        return options;
    }

    Options engine_options() {
        Options options;
        options.prefix_cache = random_() % 3 != 0;
        options.reserve_output = random_() % 2 == 0;
        options.speculation = random_() % 3 != 0;
        options.ageing_ms = static_cast<std::uint32_t>(1 + random_() % 10000);
        options.credit = static_cast<std::uint32_t>(1 + random_() % 30);
        options.prompt_tokens = static_cast<std::uint32_t>(1 + random_() % 64);
        options.mixed_tokens_max = static_cast<std::uint32_t>(1 + random_() % 64);
        return options;
    }

    Status maybe_fail(unsigned one_in) {
        driver_.clock.advance(std::chrono::microseconds(random_() % 50000));
        if (!fails_ || random_() % one_in != 0) return ok();
        return Error(random_() % 3 == 0 ? Code::overloaded : Code::internal, "injected");
    }

    void arrive() {
        auto const limit = driver_.preparer.limit();
        auto request = testing::prompt_of(1 + random_() % (limit - 1));
        for (auto& token : std::get<domain::TokenPrompt>(request.prompt).tokens)
            token = random_() % 12 == 0 ? 'y' : 'x';
        request.choices = static_cast<std::uint32_t>(
            1 + random_() % std::min<std::size_t>(4, driver_.backend.properties().info.sequences_max));
        request.sampling.temperature = random_() % 2 == 0 ? 0.0F : 2.5F;
        request.return_prompt_progress = random_() % 2 == 0;
        request.priority = static_cast<domain::Priority>(random_() % domain::kPriorityCount);
        request.tenant = std::string(random_() % 3, 't');
        request.cache_prompt = random_() % 8 != 0;
        if (random_() % 20 == 0) request.deadlines.queue_ms = 1 + random_() % 10000;
        if (random_() % 20 == 0) request.deadlines.prefill_ms = 1 + random_() % 1000;
        if (random_() % 20 == 0) request.deadlines.decode_ms = 1 + random_() % 10000;
        if (random_() % 2 == 0) request.max_tokens = 1 + random_() % 30;
        if (random_() % 3 == 0) request.stop = {"w9w10", "\xE2\x82\xACw"};
        if (random_() % 4 == 0) request.top_logprobs = 1;
        driver_.submit(next_id_, request);
        open_.push_back(next_id_++);
    }

    RequestId pick() { return open_[random_() % open_.size()]; }

    void forget_ended() {
        std::erase_if(open_, [this](RequestId id) { return driver_.of(id).ended(); });
    }

    // Everybody reads again: everything must end by itself.
    void drain() {
        for (RequestId const id : open_) driver_.core.grant(id, 100000);
        driver_.run();
        for (RequestId id = 1; id < next_id_; ++id) ASSERT_TRUE(driver_.of(id).ended()) << id;
        driver_.expect_empty();
    }

    std::mt19937 random_;
    Driver driver_;
    bool fails_;
    std::vector<RequestId> open_;
    RequestId next_id_ = 1;
};

TEST(engine_simulation, ten_thousand_random_cancels_leak_nothing_and_lose_nobody) {
    Simulation::Tally tally;
    for (unsigned seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        tally += Simulation(seed).run(50);
        if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
    EXPECT_GT(tally.requests, 10000U);
    EXPECT_GT(tally.failed, 100U) << "else the failures were not exercised";
    EXPECT_GT(tally.preemptions, 1000U) << "else swapping was not";
    EXPECT_GT(tally.accepted, 1000U) << "nor speculation";
    EXPECT_GT(tally.drafted, tally.accepted + 100) << "nor guesses that were wrong";
}

}  // namespace
}  // namespace hearth::engine
