// A decode that is stopped from another thread leaves nothing behind.

#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "llama/testing/backend_probe.h"
#include "llama/testing/tiny_model.h"

namespace hearth::llama {
namespace {

using namespace testing;

constexpr std::uint32_t kVocabulary = 320;
constexpr std::uint32_t kPrompt = 60, kChunk = 90;
constexpr int kTrials = 200;

LoadOptions tiny_options(TinyModel const& model) {
    auto options = small_options(model.path());
    options.context_request = 256;
    options.batch_max = 128;
    return options;
}

// Sets a flag some time after it is told to; how much later is a number of loops.
class Stopper {
public:
    std::atomic<bool> stop{false};

    ~Stopper() {
        loops_.store(-1);
        thread_.join();
    }
    void stop_after(int loops) {
        stop.store(false);
        done_.store(false);
        loops_.store(loops);
        while (loops_.load() != 0) std::this_thread::yield();  // it counts
    }
    void wait() const {
        while (!done_.load()) std::this_thread::yield();
    }

private:
    void run() {
        for (;;) {
            int const loops = loops_.exchange(0);
            if (loops < 0) return;
            if (loops == 0) {
                std::this_thread::yield();
                continue;
            }
            for (int i = 0; i < loops; ++i) turns_.fetch_add(1);
            stop.store(true);
            done_.store(true);
        }
    }

    std::atomic<int> loops_{0};
    std::atomic<bool> done_{false};
    std::atomic<std::uint64_t> turns_{0};
    std::thread thread_{[this] { run(); }};
};

// What one sequence says next and a part of another's prompt.
std::vector<BatchEntry> mixed_batch() {
    std::vector<BatchEntry> batch{{7, kPrompt, 0, true}};
    auto const text = some_tokens(kChunk, kVocabulary, 5);
    for (std::uint32_t i = 0; i < kChunk; ++i) batch.push_back({text[i], static_cast<Position>(i), 1, i + 1 == kChunk});
    return batch;
}

std::vector<std::uint32_t> bits(std::span<float const> logits) {
    std::vector<std::uint32_t> out;
    for (float const value : logits) out.push_back(std::bit_cast<std::uint32_t>(value));
    return out;
}

class Interruption : public ::testing::TestWithParam<TinyKind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, Interruption,
                         ::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid,
                                           TinyKind::recurrent));

TEST_P(Interruption, AStoppedDecodeIsAsIfItHadNotBegun) {
    TinyModel const model({.kind = GetParam()});
    Stopper stopper;
    auto const backend = load_or_die(tiny_options(model));
    ASSERT_NE(backend, nullptr);
    bool const can = backend->properties().can_interrupt;
    EXPECT_EQ(can, GetParam() == TinyKind::attention || GetParam() == TinyKind::window);
    backend->heed(stopper.stop);
    ASSERT_TRUE(feed(*backend, 0, some_tokens(kPrompt, kVocabulary, 3)));
    auto const batch = mixed_batch();
    ASSERT_TRUE(backend->decode(batch));
    EXPECT_EQ(backend->decoded_share(), can ? std::optional(1.0) : std::nullopt);
    auto const first = bits(backend->logits(0)), second = bits(backend->logits(kChunk));
    int stopped = 0, stopped_early = 0;
    for (int trial = 0; can && trial < kTrials; ++trial) {
        ASSERT_TRUE(backend->remove(0, kPrompt));
        ASSERT_TRUE(backend->remove(1, 0));
        stopper.stop_after(1 + trial * trial);
        if (trial == 0) stopper.wait();  // before it begins
        auto const status = backend->decode(batch);
        stopper.wait();
        if (!status) {
            ++stopped;
            EXPECT_EQ(status.error().code, Code::cancelled) << status.error().message;
            stopped_early += backend->decoded_share().value_or(1) < 1 ? 1 : 0;
            stopper.stop.store(false);
            ASSERT_TRUE(backend->decode(batch)) << "the same can be computed now";
        }
        ASSERT_EQ(bits(backend->logits(0)), first) << trial;
        ASSERT_EQ(bits(backend->logits(kChunk)), second) << trial;
    }
    stopper.stop.store(true);
    ASSERT_TRUE(backend->remove(1, 0));
    std::vector<BatchEntry> const last(batch.begin() + 1, batch.end());
    EXPECT_EQ(backend->decode(last).has_value(), !can) << "what cannot be stopped pays no heed";
    if (can) EXPECT_GT(stopped, 0);
    if (can) EXPECT_GT(stopped_early, 0) << "who looks meanwhile sees how far it is";
}

}  // namespace
}  // namespace hearth::llama
