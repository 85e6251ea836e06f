// Names with adapters: models to whoever asks, and one worker behind them.
#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using domain::Done;
using domain::Started;

class PoolVariants : public testing::PoolFixture {
public:
    static ModelSpec with_variants() {
        auto out = spec("base");
        out.aliases = {"b"};
        auto definition = std::make_shared<modelfile::Definition>();
        definition->system = "s";
        out.variants = {{"one", {{"/1.gguf", 0.5F}}, definition}, {"two", {{"/1.gguf", 1}, {"/2.gguf", 1}}, nullptr}};
        return out;
    }
    Result<std::unique_ptr<Generation>> ask(std::string model) {
        auto wanted = request();
        wanted.model = std::move(model);
        return pool().submit(wanted);
    }
    // The set of adapters of the next request that the worker is given.
    static net::Task<std::uint32_t> set_of_next(testing::FakeWorker& worker) {
        auto frame = co_await worker.next();
        auto const* submit = std::get_if<SubmitFrame>(&frame);
        EXPECT_NE(submit, nullptr);
        if (submit == nullptr) co_return 99;
        EXPECT_EQ(submit->request.model, "base");
        co_return submit->request.adapters;
    }
};

TEST_F(PoolVariants, RequestsGoToOneWorkerAndNameTheirSet) {
    ASSERT_TRUE(pool().add(with_variants()));
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        std::vector<std::unique_ptr<Generation>> held;
        for (auto const& [name, set] : {std::pair{"base", 0U}, {"one", 1U}, {"two", 2U}, {"b", 0U}, {"", 0U}}) {
            auto generation = t.ask(name);
            EXPECT_TRUE(generation) << name;
            if (!generation) co_return;
            held.push_back(*std::move(generation));
            auto const got = co_await t.set_of_next(*worker);
            EXPECT_EQ(got, set) << name;
        }
        EXPECT_EQ(t.pool().status("base")->inside, 5U);
        EXPECT_FALSE(t.ask("three"));
    }(*this));
}

TEST_F(PoolVariants, EachIsListedWithWhatIsItsOwn) {
    auto model = with_variants();
    model.memory_bytes = 1000;
    ASSERT_TRUE(pool().add(std::move(model)));
    auto const all = pool().models();
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0].id, "base");
    EXPECT_EQ(all[0].base, "");
    EXPECT_EQ(all[0].memory_bytes, 1000U);
    EXPECT_EQ(all[1].id, "one");
    EXPECT_EQ(all[1].base, "base");
    EXPECT_TRUE(all[1].aliases.empty());
    EXPECT_EQ(all[1].definition->system, "s");
    EXPECT_EQ(all[1].memory_bytes, 0U) << "it is counted once";
    EXPECT_EQ(all[2].adapters.size(), 2U);
    EXPECT_EQ(pool().status("two")->id, "two");
    EXPECT_EQ(pool().status("b")->id, "base");
}

TEST_F(PoolVariants, AModelMayNeverBeServedWithoutItsOwn) {
    auto model = spec("m");
    model.variants = {{"m", {{"/1.gguf", 1}}, nullptr}};
    ASSERT_TRUE(pool().add(std::move(model)));
    ASSERT_EQ(pool().models().size(), 1U);
    auto const status = pool().models().front();
    EXPECT_EQ(status.id, "m");
    EXPECT_EQ(status.base, "");
    EXPECT_EQ(status.adapters.size(), 1U);
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        auto generation = t.ask("");
        EXPECT_TRUE(generation);
        auto frame = co_await worker->next();
        auto const* submit = std::get_if<SubmitFrame>(&frame);
        EXPECT_TRUE(submit != nullptr && submit->request.adapters == 1);
    }(*this));
}

TEST_F(PoolVariants, NamesAreTakenByTheFirstWhoHasThem) {
    ASSERT_TRUE(pool().add(with_variants()));
    EXPECT_FALSE(pool().add(spec("one")));
    auto other = spec("other");
    other.variants = {{"base", {}, nullptr}};
    EXPECT_FALSE(pool().add(other));
    other.variants = {{"x", {}, nullptr}, {"x", {}, nullptr}};
    EXPECT_FALSE(pool().add(other)) << "twice its own";
    other.variants.assign(domain::kAdapterSetsMax + 1, {});
    for (std::size_t i = 0; i < other.variants.size(); ++i) other.variants[i].id = "v" + std::to_string(i);
    auto const many = pool().add(other);
    ASSERT_FALSE(many);
    EXPECT_NE(many.error().message.find("the limit is 64"), std::string::npos) << many.error().message;
    other.variants.resize(domain::kAdapterSetsMax);
    EXPECT_TRUE(pool().add(other));
    EXPECT_FALSE(pool().remove("one")) << "it goes with its base";
}

// A crash of the worker is one of all its names, and what only waited is replayed with its set.
TEST_F(PoolVariants, AReplayKeepsTheSet) {
    ASSERT_TRUE(pool().add(with_variants()));
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        auto generation = t.ask("two");
        EXPECT_TRUE(generation);
        co_await t.set_of_next(*worker);
        worker->die("signal 11");
        auto next = co_await t.launcher.next();
        EXPECT_EQ(next->spec.variants.size(), 2U);
        next->ready();
        auto const set = co_await t.set_of_next(*next);
        EXPECT_EQ(set, 2U);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
