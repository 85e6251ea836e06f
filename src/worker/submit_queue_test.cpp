#include "worker/submit_queue.h"

#include <thread>

#include <gtest/gtest.h>

namespace hearth::worker {
namespace {

using Cancel = SubmitQueue::Cancel;

serving::SubmitFrame frame(RequestId id, std::string prompt = "x") {
    serving::SubmitFrame out{id, {}};
    out.request.prompt = domain::TextPrompt{std::move(prompt)};
    out.request.choices = 3;
    return out;
}

RequestId id_of(std::optional<SubmitQueue::Work> const& work) {
    auto const* submit = work ? std::get_if<serving::SubmitFrame>(&*work) : nullptr;
    return submit == nullptr ? 0 : submit->id;
}

bool push(SubmitQueue& queue, serving::SubmitFrame submit) { return queue.push(submit); }

TEST(SubmitQueue, HandsRequestsOutInOrder) {
    SubmitQueue queue(8, 100);
    for (RequestId id = 1; id <= 3; ++id) ASSERT_TRUE(push(queue, frame(id)));
    for (RequestId id = 1; id <= 3; ++id) {
        EXPECT_EQ(id_of(queue.take()), id);
        EXPECT_FALSE(queue.finish());
    }
}

TEST(SubmitQueue, IsBoundedInRequestsAndInBytesOfPrompts) {
    SubmitQueue queue(2, 10);
    EXPECT_TRUE(push(queue, frame(1, "123456")));
    EXPECT_FALSE(push(queue, frame(2, "12345"))) << "11 bytes";
    EXPECT_TRUE(push(queue, frame(3, "1234")));
    EXPECT_FALSE(push(queue, frame(4, ""))) << "a third request";
    EXPECT_EQ(id_of(queue.take()), 1U);
    EXPECT_TRUE(push(queue, frame(5, "123456"))) << "its bytes are free again";
}

TEST(SubmitQueue, CountsTheBytesOfEveryKindOfPrompt) {
    auto chat = frame(1);
    chat.request.prompt = domain::ChatPrompt{{{"user", "1234567"}}, true};
    auto tokens = frame(2);
    tokens.request.prompt = domain::TokenPrompt{{1, 2, 3}};
    EXPECT_FALSE(push(*std::make_unique<SubmitQueue>(8, 10), chat));
    EXPECT_TRUE(push(*std::make_unique<SubmitQueue>(8, 11), chat));
    EXPECT_FALSE(push(*std::make_unique<SubmitQueue>(8, 11), tokens));
    EXPECT_TRUE(push(*std::make_unique<SubmitQueue>(8, 12), tokens));
}

TEST(SubmitQueue, ACancelFindsARequestWhereverItIs) {
    SubmitQueue queue(8, 100);
    push(queue, frame(1));
    push(queue, frame(2));
    EXPECT_EQ(id_of(queue.take()), 1U);

    auto const waiting = queue.cancel(2);
    EXPECT_EQ(waiting.where, Cancel::removed);
    EXPECT_EQ(waiting.choices, 3U);
    EXPECT_EQ(queue.cancel(1).where, Cancel::noted);
    EXPECT_TRUE(queue.finish());
    EXPECT_EQ(queue.cancel(1).where, Cancel::elsewhere);
    EXPECT_EQ(queue.cancel(2).where, Cancel::elsewhere);
}

TEST(SubmitQueue, AnErrandGoesBeforeWhatWaits) {
    SubmitQueue queue(8, 100);
    push(queue, frame(1));
    queue.send(SubmitQueue::Errand::park);
    EXPECT_EQ(queue.take(), SubmitQueue::Work(SubmitQueue::Errand::park));
    EXPECT_EQ(id_of(queue.take()), 1U);
    std::thread taker([&] { EXPECT_EQ(queue.take(), SubmitQueue::Work(SubmitQueue::Errand::wake)); });
    queue.send(SubmitQueue::Errand::wake);
    taker.join();
}

TEST(SubmitQueue, CloseWakesTheTakerAndDropsTheRest) {
    SubmitQueue queue(8, 100);
    std::thread taker([&] { EXPECT_EQ(queue.take(), std::nullopt); });
    queue.close();
    taker.join();
    EXPECT_TRUE(push(queue, frame(1))) << "not full, only pointless";
    EXPECT_EQ(queue.take(), std::nullopt);
}

}  // namespace
}  // namespace hearth::worker
