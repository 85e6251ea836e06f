#include "fetch/partial_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "fetch/answer_rules.h"
#include "fetch/testing/fetch_fixture.h"
#include "fetch/whole_file.h"

namespace hearth::fetch::test {
namespace {

class PartialFileTest : public FetchFixture {
protected:
    static std::span<std::byte const> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
};

TEST_F(PartialFileTest, RemembersWhatWasSaved) {
    PartialState state{.size = 100, .etag = "\"a b\"", .sha256 = std::string(64, 'a'), .done = {}};
    state.done.add({0, 10});
    state.done.add({50, 60});
    {
        auto const file = PartialFile::open(path());
        ASSERT_TRUE(file);
        ASSERT_TRUE((*file)->reserve(100));
        ASSERT_TRUE((*file)->write(50, bytes("0123456789")));
        ASSERT_TRUE((*file)->save(state));
    }
    auto const file = PartialFile::open(path());
    ASSERT_TRUE(file);
    auto const loaded = (*file)->load();
    ASSERT_TRUE(loaded);
    EXPECT_EQ(render_state(*loaded), render_state(state));
}

TEST_F(PartialFileTest, AStateWithoutItsBytesIsNone) {
    PartialState state{.size = 100, .etag = "\"x\"", .sha256 = "", .done = {}};
    state.done.add({0, 100});
    {
        auto const file = PartialFile::open(path());
        ASSERT_TRUE((*file)->reserve(100));
        ASSERT_TRUE((*file)->save(state));
    }
    std::filesystem::remove(path("file.partial"));
    auto const file = PartialFile::open(path());
    EXPECT_FALSE((*file)->load());
    ASSERT_TRUE((*file)->clear());
    EXPECT_FALSE(exists("file.partial.state"));
}

TEST_F(PartialFileTest, WholeBlocksGoPastThePageCache) {
    constexpr std::size_t kBlock = PartialFile::kBlockBytes, kBytes = 64 * kBlock;
    int const probe = ::open(path("probe").c_str(), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (probe < 0) GTEST_SKIP() << "this file system takes no direct writes";
    ::close(probe);
    auto const whole = some_bytes(2 * kBytes + 5);
    std::unique_ptr<std::byte[], decltype(&std::free)> const memory(
        static_cast<std::byte*>(std::aligned_alloc(kBlock, 3 * kBytes)), &std::free);
    std::memcpy(memory.get(), whole.data(), whole.size());
    std::span<std::byte const> const all(memory.get(), whole.size());
    std::array const parts{all.subspan(0, kBytes), all.subspan(kBytes, kBytes)};
    auto const file = PartialFile::open(path());
    ASSERT_TRUE((*file)->reserve(whole.size()));
    ASSERT_TRUE((*file)->write(0, parts));
    int const fd = ::open(path("file.partial").c_str(), O_RDONLY | O_CLOEXEC);
    char byte = 0;
    iovec into{&byte, 1};
    EXPECT_EQ(::preadv2(fd, &into, 1, kBlock, RWF_NOWAIT), -1) << "it is in memory";
    ::close(fd);
    ASSERT_TRUE((*file)->write(2 * kBytes, all.subspan(2 * kBytes)));
    ASSERT_TRUE((*file)->write(3, all.subspan(3, kBytes))) << "what does not begin at a block";
    ASSERT_TRUE((*file)->write(kBlock, all.subspan(kBlock, kBlock))) << "a block that is in memory meanwhile";
    EXPECT_EQ(content("file.partial"), whole);
}

TEST_F(PartialFileTest, OneOwnerAtATime) {
    auto first = PartialFile::open(path());
    ASSERT_TRUE(first);
    auto const second = PartialFile::open(path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Code::unavailable);
    EXPECT_TRUE(PartialFile::is_held(path()));
    first->reset();
    EXPECT_FALSE(PartialFile::is_held(path()));
    EXPECT_TRUE(PartialFile::open(path()));
}

TEST_F(PartialFileTest, WhatIsNotThereIsNotMadeByLookingAtIt) {
    EXPECT_FALSE(PartialFile::open_existing(path()));
    expect_only("");
    ASSERT_TRUE(PartialFile::open(path()));
    EXPECT_TRUE(PartialFile::open_existing(path()));
}

TEST_F(PartialFileTest, DoesNotFollowALink) {
    std::ofstream(path("other")) << "precious";
    std::filesystem::create_symlink(path("other"), path("file.partial"));
    EXPECT_FALSE(PartialFile::open(path()));
    EXPECT_EQ(content("other"), "precious");
}

TEST_F(PartialFileTest, SaysHowMuchRoomIsMissing) {
    auto const file = PartialFile::open(path());
    constexpr std::uint64_t kMuch = std::uint64_t{1} << 60;
    auto const reserved = (*file)->reserve(kMuch);
    ASSERT_FALSE(reserved);
    EXPECT_EQ(reserved.error().code, Code::exhausted);
    EXPECT_NE(reserved.error().message.find(std::to_string(kMuch)), std::string::npos) << reserved.error().message;
    EXPECT_NE(reserved.error().message.find("are free in " + folder), std::string::npos) << reserved.error().message;
}

TEST_F(PartialFileTest, ADiskThatFillsUpEndsTheDownloadAndLeavesNothing) {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit small = before;
    small.rlim_cur = 50'000;
    auto const whole = some_bytes(100'000);
    for (bool const ranges : {true, false}) {
        FileServer server("127.0.0.1", [&](Asked const& asked) {
            if (ranges) return serve_file(asked, whole, "\"x\"");
            return Reply{.body = whole, .chunked = true};
        });
        ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
        auto const result = fetch(request(server));
        ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, Code::too_large) << result.error().message;
        expect_only("");
    }
}

TEST_F(PartialFileTest, AWholeFileIsTheUsersUnlessEverybodyMayReadIt) {
    auto const mode = [&] { return std::filesystem::status(path()).permissions(); };
    using enum std::filesystem::perms;
    ASSERT_TRUE(write_whole(path(), "own"));
    EXPECT_EQ(mode(), owner_read | owner_write);
    ASSERT_TRUE(write_whole(path(), "shared", Readers::everybody));
    EXPECT_EQ(mode(), owner_read | owner_write | group_read | others_read);
    EXPECT_EQ(content("file"), "shared");
    expect_only("file");
}

TEST_F(PartialFileTest, AWholeFileThatSeveralWriteAtOnceIsOneOfTheirs) {
    std::vector<std::thread> writers;
    for (char const letter : {'a', 'b', 'c'})
        writers.emplace_back([this, letter] {
            std::string const text(static_cast<std::size_t>(letter) * 100, letter);
            for (int i = 0; i < 30; ++i) {
                auto const written = write_whole(path(), text);
                EXPECT_TRUE(written) << written.error().message;
            }
        });
    for (auto& writer : writers) writer.join();
    auto const text = content("file");
    ASSERT_FALSE(text.empty());
    EXPECT_EQ(text, std::string(static_cast<std::size_t>(text.front()) * 100, text.front()));
    expect_only("file");
}

TEST_F(PartialFileTest, BytesThatCannotBeReadBackAreAnError) {
    auto const file = PartialFile::open(path());
    ASSERT_TRUE((*file)->write(0, bytes("abc")));
    std::string into(4, '\0');
    EXPECT_FALSE((*file)->read(0, std::as_writable_bytes(std::span(into))));
    ASSERT_TRUE((*file)->read(0, std::as_writable_bytes(std::span(into)).first(3)));
    EXPECT_EQ(into.substr(0, 3), "abc");
}

TEST(PartialState, TakesNothingButItsOwnFormat) {
    PartialState state{.size = 100, .etag = "", .sha256 = "", .done = {}};
    state.done.add({10, 20});
    auto const good = render_state(state);
    ASSERT_TRUE(parse_state(good));
    for (std::size_t cut = 0; cut < good.size(); ++cut) EXPECT_FALSE(parse_state(good.substr(0, cut))) << cut;
    for (auto const* ranges : {"done 10 101\n", "done 10 10\n", "done 20 10\n", "done 10 20\ndone 15 30\n", "done 10\n",
                               "done -1 5\n", "done 1 99999999999999999999\n", "else\n", "done 1 2\ndone 0 1\n"}) {
        auto const text = std::string("hearth-partial 1\nsize 100\netag -\nsha256 -\n") + ranges + "end .\n";
        EXPECT_FALSE(parse_state(text)) << ranges;
    }
    EXPECT_FALSE(parse_state("hearth-partial 2\n" + good.substr(17)));
    EXPECT_FALSE(parse_state(good + "x"));
}

TEST(ByteRanges, JoinsWhatTouches) {
    ByteRanges ranges;
    ranges.add({10, 20});
    ranges.add({30, 40});
    EXPECT_EQ(ranges.prefix(), 0U);
    EXPECT_EQ(ranges.first_gap(0, 100, 1000), (ByteRange{0, 10}));
    EXPECT_EQ(ranges.first_gap(10, 100, 5), (ByteRange{20, 25}));
    EXPECT_EQ(ranges.first_gap(35, 40, 5), std::nullopt);
    ranges.add({20, 30});
    EXPECT_EQ(ranges.pieces().size(), 1U);
    ranges.add({0, 100});
    EXPECT_EQ(ranges.total(), 100U);
    EXPECT_EQ(ranges.prefix(), 100U);
    EXPECT_EQ(ranges.first_gap(0, 100, 5), std::nullopt);
    ranges.add({50, 50});
    EXPECT_EQ(ranges.pieces().size(), 1U);
}

TEST(AnswerRules, ReadContentRanges) {
    auto const range = parse_content_range("bytes 0-99/1000");
    ASSERT_TRUE(range && range->range);
    EXPECT_EQ(*range->range, (ByteRange{0, 100}));
    EXPECT_EQ(range->total, 1000U);
    EXPECT_EQ(parse_content_range("bytes */7")->total, 7U);
    for (auto const* bad : {"", "bytes", "bytes 0-99/*", "bytes 99-0/1000", "bytes 0-1000/1000", "bytes 0-/10",
                            "bytes -5/10", "items 0-9/10", "bytes 0-9/10 ", "bytes 0-99999999999999999999/1"})
        EXPECT_FALSE(parse_content_range(bad)) << bad;
}

TEST(AnswerRules, ReadTagsAndTimes) {
    EXPECT_EQ(strong_etag("\"abc\""), "\"abc\"");
    for (auto const* weak : {"W/\"abc\"", "abc", "\"", "", "\"a\nb\""}) EXPECT_EQ(strong_etag(weak), "") << weak;
    EXPECT_EQ(parse_retry_after("120"), std::chrono::seconds(120));
    EXPECT_EQ(parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), std::nullopt);
    EXPECT_EQ(parse_retry_after("-1"), std::nullopt);
    EXPECT_EQ(linked_sha256("\"" + std::string(64, 'a') + "\""), std::string(64, 'a'));
    EXPECT_EQ(linked_sha256("\"../../x\""), "");
}

}  // namespace
}  // namespace hearth::fetch::test
