#include "library/meter.h"

#include <gtest/gtest.h>

#include <optional>
#include <stop_token>

namespace hearth::library {
namespace {

class FakeContext final : public jobs::Context {
public:
    [[nodiscard]] jobs::Job const& job() const override { return job_; }
    [[nodiscard]] std::stop_token stop() const override { return {}; }
    [[nodiscard]] Status report(jobs::Progress progress) override {
        std::unique_lock lock(mutex);
        told.push_back(std::move(progress));
        arrived.notify_all();
        released.wait(lock, [this] { return !held; });
        return ok();
    }
    void wait_for_a_report() {
        std::unique_lock lock(mutex);
        arrived.wait(lock, [this] { return !told.empty(); });
    }
    void release() {
        std::scoped_lock const lock(mutex);
        held = false;
        released.notify_all();
    }

    std::mutex mutex;
    std::condition_variable arrived, released;
    bool held = false;  // a report does not come back
    std::vector<jobs::Progress> told;

private:
    jobs::Job job_;
};

TEST(Meter, AddsUpItsPartsAndTellsTheLastWord) {
    FakeContext context;
    Meter meter(context);
    auto const first = meter.add({"a", 0, 100});
    auto const second = meter.add({"b", 7, 7});
    meter.say("working");
    meter.set(first, 30, 100);
    meter.end();
    EXPECT_EQ(context.told.back(), (jobs::Progress{37, 107, "working", {{"a", 30, 100}, {"b", 7, 7}}}));
    EXPECT_EQ(second, 1U);
}

TEST(Meter, WhoSaysItDoesNotWaitUntilItIsWrittenDown) {
    FakeContext context;
    context.held = true;
    Meter meter(context);
    meter.add({"a", 0, 100});
    context.wait_for_a_report();
    for (std::uint64_t i = 1; i <= 100; ++i) meter.set(0, i, 100);  // would hang
    meter.all_done();
    context.release();
    meter.end();
    EXPECT_EQ(context.told.size(), 2U) << "what was said meanwhile is one report";
    EXPECT_EQ(context.told.back().done, 100U);
}

TEST(Meter, WithoutAWordThereIsNoReport) {
    FakeContext context;
    { Meter const meter(context); }
    EXPECT_TRUE(context.told.empty());
}

}  // namespace
}  // namespace hearth::library
