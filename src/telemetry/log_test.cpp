#include "telemetry/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/utf8.h"

namespace hearth::telemetry {
namespace {

namespace fs = std::filesystem;

class LogTest : public testing::Test {
protected:
    void SetUp() override {
        auto name = (fs::temp_directory_path() / "hearth-log-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        folder_ = name;
    }
    void TearDown() override { fs::remove_all(folder_); }

    [[nodiscard]] std::string path() const { return (folder_ / "log").string(); }

    std::unique_ptr<Log> create(Format format, Level level = Level::info) {
        LogOptions options;
        options.file = path();
        options.format = format;
        options.level = level;
        auto log = Log::create(options);
        EXPECT_TRUE(log.has_value());
        return std::move(log).value();
    }

    static std::vector<std::string> lines(std::string const& file) {
        std::ifstream in(file, std::ios::binary);
        std::vector<std::string> out;
        for (std::string line; std::getline(in, line);) out.push_back(line);
        return out;
    }

    // The only line, without its time.
    [[nodiscard]] std::string only_line() const {
        auto const all = lines(path());
        EXPECT_EQ(all.size(), 1U);
        if (all.empty()) return {};
        std::size_t const at = all[0].starts_with('{') ? 7 : 0;
        std::string const time = all[0].substr(at, 24);
        std::string shape = time;
        for (char& c : shape) c = c >= '0' && c <= '9' ? 'd' : c;
        EXPECT_EQ(shape, "dddd-dd-ddTdd:dd:dd.dddZ") << all[0];
        return all[0].substr(0, at) + "T" + all[0].substr(at + time.size());
    }

    fs::path folder_;
};

TEST_F(LogTest, AHumanLineQuotesOnlyWhatNeedsIt) {
    create(Format::human)
        ->info("worker ready", {{"model", "a/b:c"},
                                {"ms", 41.5},
                                {"n", -3},
                                {"big", ~0ULL},
                                {"ok", true},
                                {"note", "a b"},
                                {"empty", ""},
                                {"eq", "a=b"},
                                {"quote", "say \"x\""}});
    EXPECT_EQ(only_line(),
              "T info  worker ready model=a/b:c ms=41.5 n=-3 big=18446744073709551615 ok=true note=\"a b\" empty=\"\" "
              "eq=\"a=b\" quote=\"say \\\"x\\\"\"");
}

TEST_F(LogTest, AJsonLineHoldsTypedValues) {
    create(Format::json)
        ->warning("slow", {{"path", "/v1"}, {"ms", 0.25}, {"n", 7}, {"ok", false}, {"nan", std::nan("")}});
    EXPECT_EQ(only_line(),
              R"({"ts":"T","level":"warn","msg":"slow","path":"/v1","ms":0.25,"n":7,"ok":false,"nan":null})");
}

TEST_F(LogTest, NoValueCanStartALineOrSteerATerminal) {
    std::string const hostile =
        "a\nb\r\t\x1b[2J\x7f\u009b"
        "c\\\"" +
        std::string(1, '\0');
    std::string const escaped = R"("a\nb\r\t\u001b[2J\u007f\u009bc\\\"\u0000")";
    create(Format::human)->error(hostile, {{"v", hostile}});
    EXPECT_EQ(only_line(), "T error " + escaped + " v=" + escaped);
}

TEST_F(LogTest, BytesThatAreNoUtf8BecomeReplacementCharacters) {
    create(Format::json)->info("x", {{"v", "a\xFF\xC3(\xE2\x82"}});
    EXPECT_EQ(only_line(), "{\"ts\":\"T\",\"level\":\"info\",\"msg\":\"x\",\"v\":\"a\uFFFD\uFFFD(\uFFFD\"}");
}

TEST_F(LogTest, ALongTextIsCutBetweenCodePoints) {
    std::string text = "x";
    while (text.size() < 20000) text += "\u20ac";
    create(Format::json)->info("m", {{"v", text}});
    std::string const line = only_line();
    EXPECT_LT(line.size(), 8400U);
    EXPECT_TRUE(is_valid_utf8(line));
    EXPECT_TRUE(line.ends_with("\u20ac\u2026\"}"));
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
    auto const log = create(Format::human, Level::warning);
    log->info("no");
    log->debug("no");
    log->warning("yes");
    EXPECT_FALSE(log->enabled(Level::info));
    EXPECT_EQ(only_line(), "T warn  yes");
}

TEST_F(LogTest, ColourIsUsedOnlyWhenAsked) {
    LogOptions options;
    options.file = path();
    options.color = true;
    Log::create(options).value()->error("broken");
    EXPECT_EQ(only_line(), "T \x1b[31merror\x1b[0m broken");
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsNamed) {
    LogOptions options;
    options.file = "/nonexistent/folder/log";
    auto const log = Log::create(options);
    ASSERT_FALSE(log.has_value());
    EXPECT_EQ(log.error().code, Code::io);
    EXPECT_NE(log.error().message.find("/nonexistent/folder/log"), std::string::npos);
    EXPECT_NE(log.error().message.find("No such file"), std::string::npos);
}

TEST_F(LogTest, AFullDiskCostsLinesNotTheServer) {
    LogOptions options;
    options.file = "/dev/full";
    auto const log = Log::create(options);
    ASSERT_TRUE(log.has_value());
    for (int i = 0; i < 3; ++i) (*log)->info("lost");
    EXPECT_EQ((*log)->dropped(), 3U);
}

TEST_F(LogTest, APipeNobodyReadsDropsLinesAndSaysSoOnceItIsReadAgain) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    LogOptions options;
    options.fd = ends[1];
    auto const log = std::move(Log::create(options)).value();
    std::string const text(1000, 'x');
    while (log->dropped() < 5) log->info("fill", {{"text", text}});  // would hang here if it blocked

    std::string all(1U << 20, '\0');
    all.resize(static_cast<std::size_t>(::read(ends[0], all.data(), all.size())));
    log->info("again");
    std::string more(4096, '\0');
    more.resize(static_cast<std::size_t>(::read(ends[0], more.data(), more.size())));
    EXPECT_NE(more.find("log lines were lost lines=5\n"), std::string::npos);
    EXPECT_TRUE(more.ends_with("again\n"));
    EXPECT_EQ(log->dropped(), 5U);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(LogTest, ALineCutByAFullPipeIsEndedBeforeTheNext) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    ASSERT_GT(::fcntl(ends[1], F_SETPIPE_SZ, 8192), 0);
    LogOptions options;
    options.fd = ends[1];
    auto const log = std::move(Log::create(options)).value();
    std::string const text(7000, 'x');
    while (log->dropped() == 0) log->info("fill", {{"a", text}, {"b", text}});
    std::string all(1U << 16, '\0');
    all.resize(static_cast<std::size_t>(::read(ends[0], all.data(), all.size())));
    log->info("again");
    std::string more(4096, '\0');
    more.resize(static_cast<std::size_t>(::read(ends[0], more.data(), more.size())));
    EXPECT_FALSE(all.ends_with("\n"));
    EXPECT_EQ(more[0], '\n');
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(LogTest, AClosedPipeDoesNotKillTheProcess) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    ::close(ends[0]);
    LogOptions options;
    options.fd = ends[1];
    auto const log = std::move(Log::create(options)).value();
    log->info("to nobody");
    EXPECT_EQ(log->dropped(), 1U);
    ::close(ends[1]);
}

TEST_F(LogTest, AFullFileMakesRoomForANewOne) {
    LogOptions options;
    options.file = path();
    options.file_bytes_max = 1000;
    auto const log = std::move(Log::create(options)).value();
    for (int i = 0; i < 100; ++i) log->info("entry", {{"i", i}});
    EXPECT_LT(fs::file_size(path()), 1100U);
    EXPECT_LT(fs::file_size(path() + ".1"), 1100U);
    EXPECT_GE(fs::file_size(path() + ".1"), 1000U);
    auto const all = lines(path());
    ASSERT_FALSE(all.empty());
    EXPECT_TRUE(all.back().ends_with("i=99"));
    EXPECT_EQ(log->dropped(), 0U);
}

TEST_F(LogTest, LinesOfManyThreadsAreWhole) {
    auto const log = create(Format::human);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&log, t] {
            for (int i = 0; i < 500; ++i) log->info("line", {{"thread", t}, {"end", "yes"}});
        });
    }
    for (auto& thread : threads) thread.join();
    auto const all = lines(path());
    EXPECT_EQ(all.size(), 2000U);
    for (auto const& line : all) {
        EXPECT_TRUE(line.ends_with("end=yes"));
        EXPECT_EQ(line.find("info"), line.rfind("info"));
    }
}

TEST_F(LogTest, TheNullLogTakesEverything) {
    auto const log = make_null_log();
    log->error("gone");
    EXPECT_FALSE(log->enabled(Level::error));
    EXPECT_EQ(log->dropped(), 0U);
}

}  // namespace
}  // namespace hearth::telemetry
