#include "fetch/landing.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <random>

#include "fetch/testing/fetch_fixture.h"

namespace hearth::fetch::test {
namespace {

class LandingTest : public FetchFixture {
protected:
    LandingTest() {
        auto opened = PartialFile::open(path());
        file_ = std::move(*opened);
    }

    // What `ranges` of `content` become, in that order, with so many chunks.
    void land(std::string const& content, std::vector<ByteRange> ranges, std::size_t chunks, std::size_t kept = 0) {
        net::Loop loop;
        boost::asio::thread_pool pool(3);
        Landing::Events events;
        events.written = [&](ByteRange range) { written_ += range.size(); };
        events.failed = [&](Error const& error) { failures_.push_back(error); };
        Landing landing(loop, pool, *file_, there_, {chunks, kept}, std::move(events));
        loop.spawn(landing.write());
        loop.spawn(landing.hash());
        loop.spawn(put_all(landing, content, std::move(ranges)));
        loop.run();
        pool.join();
    }

    net::Task<void> put_all(Landing& landing, std::string const& content, std::vector<ByteRange> ranges) {
        for (auto const& range : ranges) {
            auto* const chunk = co_await landing.take();
            if (chunk == nullptr) break;
            chunk->offset = range.begin;
            chunk->size = static_cast<std::size_t>(range.size());
            std::memcpy(chunk->bytes.get(), content.data() + range.begin, chunk->size);
            landing.put(chunk);
            if (++puts_ == stop_after_) landing.stop();
        }
        landing.close();
        co_await landing.until_over();
        if (stop_after_ == 0) hash_ = landing.finish_hash();
    }

    // Bytes that this process has read from anywhere.
    static std::uint64_t reads() {
        std::ifstream io("/proc/self/io");
        std::string name;
        std::uint64_t count = 0;
        io >> name >> count;
        EXPECT_EQ(name, "rchar:");
        return count;
    }

    // Pieces of about `size`, one behind the other.
    static std::vector<ByteRange> cut(std::uint64_t from, std::uint64_t end, std::uint64_t size) {
        std::vector<ByteRange> ranges;
        for (; from < end; from += size) ranges.push_back({from, std::min(from + size, end)});
        return ranges;
    }

    std::unique_ptr<PartialFile> file_;
    ByteRanges there_;
    std::uint64_t written_ = 0;
    std::size_t puts_ = 0, stop_after_ = 0;
    std::string hash_;
    std::vector<Error> failures_;
};

TEST_F(LandingTest, WhatComesInOrderIsWrittenAndHashed) {
    auto const whole = some_bytes((6U << 20) + 77);
    land(whole, cut(0, whole.size(), kChunkBytes), 3);
    EXPECT_EQ(hash_, sha256(whole));
    EXPECT_EQ(content("file.partial"), whole);
    EXPECT_EQ(there_.prefix(), whole.size());
    EXPECT_EQ(written_, whole.size());
    EXPECT_TRUE(failures_.empty());
}

TEST_F(LandingTest, AnyOrderGivesTheSameHash) {
    auto const whole = some_bytes(300'000);
    std::mt19937 random(3);
    for (int round = 0; round < 50; ++round) {
        there_.clear();
        ASSERT_TRUE(file_->clear());
        auto ranges = cut(0, whole.size(), 1000 + random() % 50'000);
        std::ranges::shuffle(ranges, random);
        land(whole, ranges, 1 + random() % 4, random() % 8);
        ASSERT_EQ(hash_, sha256(whole)) << round;
        ASSERT_EQ(content("file.partial"), whole) << round;
    }
}

TEST_F(LandingTest, WhatWasThereIsHashedFromTheFile) {
    auto const whole = some_bytes(200'000);
    auto const had = std::string_view(whole).substr(0, 120'000);
    ASSERT_TRUE(file_->write(0, std::as_bytes(std::span(had))));
    there_.add({0, had.size()});
    land(whole, cut(had.size(), whole.size(), 10'000), 2);
    EXPECT_EQ(hash_, sha256(whole));
    EXPECT_EQ(written_, whole.size() - had.size());
}

// Four connections, each at a piece of its own: all but the first are ahead.
TEST_F(LandingTest, WhatIsKeptIsNotReadBack) {
    auto const whole = some_bytes(8U << 20);
    std::vector<ByteRange> ranges;
    for (std::uint64_t at = 0; at < 2U << 20; at += kChunkBytes)
        for (std::uint64_t piece = 4; piece-- > 0;)
            ranges.push_back({piece * (2U << 20) + at, piece * (2U << 20) + at + kChunkBytes});
    auto const before = reads();
    land(whole, ranges, 4, 8);
    EXPECT_EQ(hash_, sha256(whole));
    EXPECT_EQ(content("file.partial"), whole);
    EXPECT_LT(reads() - before, whole.size() + (1U << 20)) << "content() above reads it once";
}

TEST_F(LandingTest, NothingAtAllHasAHash) {
    land("", {}, 1);
    EXPECT_EQ(hash_, sha256(""));
}

TEST_F(LandingTest, OneChunkIsEnough) {
    auto const whole = some_bytes(50'000);
    land(whole, cut(0, whole.size(), 1000), 1);
    EXPECT_EQ(hash_, sha256(whole));
    EXPECT_EQ(there_.prefix(), whole.size());
}

TEST_F(LandingTest, WhatWasPutIsWrittenThoughItIsStopped) {
    auto const whole = some_bytes(100'000);
    stop_after_ = 4;
    land(whole, cut(0, whole.size(), 10'000), 8);
    EXPECT_EQ(puts_, 4U) << "after it nothing can be taken";
    EXPECT_EQ(there_.prefix(), 40'000U);
    EXPECT_EQ(content("file.partial"), whole.substr(0, 40'000));
}

TEST_F(LandingTest, ADiskThatIsFullIsToldOnce) {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit small = before;
    small.rlim_cur = 50'000;
    auto const whole = some_bytes(100'000);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    land(whole, cut(0, whole.size(), 1000), 2);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_EQ(failures_.size(), 1U);
    EXPECT_EQ(failures_[0].code, Code::too_large) << failures_[0].message;
    EXPECT_EQ(there_.prefix(), written_);
    EXPECT_LE(written_, 50'000U) << "what is not in the file is not said to be";
}

}  // namespace
}  // namespace hearth::fetch::test
