#include "library/quantize_job.h"

#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::library {
namespace {

class Given final : public jobs::Context {
public:
    explicit Given(std::string id, std::string payload) {
        job_.id = std::move(id);
        job_.payload = std::move(payload);
    }
    [[nodiscard]] jobs::Job const& job() const override { return job_; }
    [[nodiscard]] std::stop_token stop() const override { return stopping.get_token(); }
    Status report(jobs::Progress progress) override {
        reported = std::move(progress);
        return ok();
    }
    std::stop_source stopping;
    jobs::Progress reported;

private:
    jobs::Job job_;
};

QuantizeHandler::Make copies() {
    return [](std::string const& path, auto const& watch) -> Result<Reshaped> {
        if (!watch({false, 1, 2})) return Error(Code::cancelled, "stopped");
        return Reshaped{path + ".made", nullptr};
    };
}

TEST(QuantizeJob, PayloadsComeBackAsTheyWere) {
    QuantizeWish const wish{"m:1\"", "/a b/\xc3\xa4.gguf"};
    auto const back = quantize_wish_of(to_payload(wish));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, wish);
    for (auto const* bad : {"", "{}", "[]", R"({"model": "m"})", R"({"model": "m", "path": 1})"})
        EXPECT_EQ(quantize_wish_of(bad).error().code, Code::corrupt) << bad;
}

TEST(QuantizeJob, ReportsAndKeepsWhatCameOfIt) {
    QuantizeHandler handler(copies());
    Given job("j1", to_payload({"m", "/m.gguf"}));
    ASSERT_TRUE(handler.run(job).status);
    EXPECT_EQ(job.reported.text, "converting model");
    EXPECT_EQ(job.reported.total, 2U);
    EXPECT_EQ(handler.result_of("j1")->path, "/m.gguf.made");
    EXPECT_FALSE(handler.result_of("j2"));
}

TEST(QuantizeJob, RemembersTheLastFew) {
    QuantizeHandler handler(copies());
    for (std::size_t i = 0; i <= kReshapedKept; ++i) {
        Given job("j" + std::to_string(i), to_payload({"m", "/m" + std::to_string(i) + ".gguf"}));
        ASSERT_TRUE(handler.run(job).status);
    }
    EXPECT_FALSE(handler.result_of("j0"));
    EXPECT_TRUE(handler.result_of("j1"));
}

TEST(QuantizeJob, HoldsWhatItMadeUntilSomebodyDoes) {
    std::weak_ptr<int> hold;
    QuantizeHandler handler([&hold](std::string const&, auto const&) -> Result<Reshaped> {
        auto const made = std::make_shared<int>(0);
        hold = made;
        return Reshaped{"/made", made};
    });
    Given job("j1", to_payload({"m", "/m.gguf"}));
    ASSERT_TRUE(handler.run(job).status);
    EXPECT_FALSE(hold.expired()) << "nobody took it yet";
    {
        auto const first = handler.result_of("j1");
        auto const second = handler.result_of("j1");
        ASSERT_TRUE(first && second);
        EXPECT_EQ(second->path, "/made");
        EXPECT_EQ(second->hold, first->hold);
    }
    EXPECT_TRUE(hold.expired()) << "who took it let it go";
    EXPECT_FALSE(handler.result_of("j1"));
}

TEST(QuantizeJob, WhatNobodyTookGoesWhenItIsMadeAnew) {
    std::vector<std::weak_ptr<int>> holds;
    QuantizeHandler handler([&holds](std::string const&, auto const&) -> Result<Reshaped> {
        auto const made = std::make_shared<int>(0);
        holds.emplace_back(made);
        return Reshaped{"/made", made};
    });
    for (auto const* id : {"j1", "j2"}) {
        Given job(id, to_payload({"m", "/m.gguf"}));
        ASSERT_TRUE(handler.run(job).status);
    }
    Given other("j3", to_payload({"other", "/other.gguf"}));
    ASSERT_TRUE(handler.run(other).status);
    EXPECT_TRUE(holds[0].expired()) << "nobody waits for it any more";
    EXPECT_FALSE(holds[1].expired());
    EXPECT_FALSE(holds[2].expired());
    EXPECT_FALSE(handler.result_of("j1"));
    EXPECT_TRUE(handler.result_of("j2"));
}

TEST(QuantizeJob, StopsWhenItIsToldAndIsNotTriedAgain) {
    QuantizeHandler handler(copies());
    std::string told;
    handler.set_tell([&](std::string const& id, Error const& why) { told = id + ": " + why.message; });
    Given job("j1", to_payload({"m", "/m.gguf"}));
    job.stopping.request_stop();
    auto const outcome = handler.run(job);
    EXPECT_EQ(outcome.status.error().code, Code::cancelled);
    EXPECT_EQ(outcome.retry, jobs::Retry::never);
    EXPECT_EQ(told, "j1: stopped");
}

TEST(QuantizeJob, OneLeftFromAnotherServerFailsWhereNothingIsMade) {
    QuantizeHandler handler({});
    Given job("j1", to_payload({"m", "/m.gguf"}));
    EXPECT_EQ(handler.run(job).status.error().code, Code::unsupported);
}

}  // namespace
}  // namespace hearth::library
