#include "api/calls.h"

#include <gtest/gtest.h>

#include "api/tenant.h"

namespace hearth::api {
namespace {

class Source final : public EventSource {
public:
    net::Task<std::optional<SourcedEvent>> next_within(Duration) override { co_return std::nullopt; }
    std::optional<SourcedEvent> try_next() override { return std::nullopt; }
    void cancel() override {
        ++cancels;
        if (on_cancel) on_cancel();
    }
    [[nodiscard]] serving::Waiting waiting() const override { return {}; }
    int cancels = 0;
    std::function<void()> on_cancel;
};

CallInfo info(std::string request, std::string answer, std::string tenant = "") {
    CallInfo out;
    out.request_id = std::move(request);
    out.answer_id = std::move(answer);
    out.tenant = std::move(tenant);
    return out;
}

std::string listed(CallList const& list) {
    std::string out;
    list.for_each([&](CallList::Entry const& entry) { out += entry.info.answer_id + " "; });
    return out;
}

TEST(CallList, HoldsACallAsLongAsItIsHeld) {
    auto const list = std::make_shared<CallList>();
    auto const source = std::make_shared<Source>();
    auto first = list->enter(info("r1", "a1"), source);
    auto second = list->enter(info("r2", "a2"), source);
    auto third = list->enter(info("r3", "a3"), source);
    EXPECT_EQ(listed(*list), "a1 a2 a3 ");
    second.reset();
    EXPECT_EQ(listed(*list), "a1 a3 ");
    EXPECT_FALSE(list->cancel("r2", ""));
    EXPECT_EQ(source->cancels, 0);
}

TEST(CallList, CancelsByEitherIdWithinATenant) {
    auto const list = std::make_shared<CallList>();
    auto const source = std::make_shared<Source>();
    auto const entry = list->enter(info("r1", "a1", "t"), source);
    EXPECT_FALSE(list->cancel("r1", "other"));
    EXPECT_FALSE(entry->progress.cancelled);
    EXPECT_TRUE(list->cancel("r1", "t"));
    EXPECT_TRUE(list->cancel("a1", "t"));
    EXPECT_TRUE(entry->progress.cancelled);
    EXPECT_EQ(source->cancels, 2);
}

TEST(CallList, CancelsAllThatShareAnIdEvenIfThatEndsThem) {
    auto const list = std::make_shared<CallList>();
    auto const source = std::make_shared<Source>();
    auto first = list->enter(info("r", "a1"), source);
    auto second = list->enter(info("r", "a2"), source);
    source->on_cancel = [&] {
        first.reset();
        second.reset();
    };
    EXPECT_TRUE(list->cancel("r", ""));
    EXPECT_EQ(source->cancels, 2);
    EXPECT_EQ(listed(*list), "");
}

TEST(CallList, FindsTheCallOfAGeneration) {
    auto const list = std::make_shared<CallList>();
    auto several = info("r", "a");
    several.generations = {4, 7};
    auto const entry = list->enter(std::move(several), std::weak_ptr<EventSource>());
    ASSERT_NE(list->find(7), nullptr);
    EXPECT_EQ(list->find(7)->info.answer_id, "a");
    EXPECT_EQ(list->find(5), nullptr);
    EXPECT_TRUE(list->cancel("a", "")) << "its source is gone, it is still listed";
}

TEST(Tenant, IsWhatTheConfiguredHeaderSays) {
    Options options;
    http::Request request;
    request.headers = {{"X-Tenant", "acme"}};
    EXPECT_EQ(std::get<std::string>(tenant_of(options, request)), "");
    options.tenant_header = "x-tenant";
    EXPECT_EQ(std::get<std::string>(tenant_of(options, request)), "acme");
    request.headers = {{"x-other", "acme"}};
    EXPECT_EQ(std::get<std::string>(tenant_of(options, request)), "");
}

TEST(Tenant, IsRefusedWhenItIsAmbiguousOrTooLong) {
    Options options;
    options.tenant_header = "x-tenant";
    http::Request request;
    request.headers = {{"x-tenant", "a"}, {"X-TENANT", "b"}};
    EXPECT_EQ(std::get<Problem>(tenant_of(options, request)).message,
              "The header 'x-tenant' must be sent at most once.");
    request.headers = {{"x-tenant", std::string(129, 'a')}};
    EXPECT_EQ(std::get<Problem>(tenant_of(options, request)).message,
              "The header 'x-tenant' must hold at most 128 bytes of UTF-8, it has 129 bytes.");
    request.headers = {{"x-tenant", "\xff"}};
    EXPECT_EQ(std::get<Problem>(tenant_of(options, request)).kind, Kind::invalid_value);
}

}  // namespace
}  // namespace hearth::api
