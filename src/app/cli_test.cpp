// What the option parser refuses, and how it says so. What commands do is
// tested on the real binary in tests/integration.
#include "app/cli.h"

#include <fstream>
#include <utility>

#include <gtest/gtest.h>

namespace hearth::app {
namespace {

struct Outcome {
    int exit;
    std::string out, err;
};

Outcome cli(std::vector<std::string> arguments) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    int const exit = run_command_line(std::move(arguments));
    return {exit, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST(CommandLine, HelpGoesToStdoutAndIsNoError) {
    auto const result = cli({"--help"});
    EXPECT_EQ(result.exit, kExitOk);
    EXPECT_NE(result.out.find("serve"), std::string::npos);
    EXPECT_EQ(result.err, "");
}

TEST(CommandLine, AMistypedFlagIsAUsageErrorWithASuggestion) {
    auto const result = cli({"serve", "--prot", "80"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("Did you mean '--port'"), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
}

TEST(CommandLine, AMistypedCommandIsAUsageErrorWithASuggestion) {
    auto const result = cli({"serv"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("'serve'"), std::string::npos) << result.err;
}

TEST(CommandLine, AValueOutsideItsRangeNamesTheFlagAndTheRange) {
    auto const result = cli({"serve", "--model", "x", "--max-seqs", "1000"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("--max-seqs"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("256"), std::string::npos) << result.err;
}

TEST(CommandLine, AnUnknownCommandIsNamed) {
    auto const result = cli({"frobnicate"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("no command 'frobnicate'"), std::string::npos) << result.err;
}

TEST(CommandLine, APortOutsideItsRangeNamesTheRange) {
    auto const result = cli({"serve", "--port", "99999"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("99999"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("65535"), std::string::npos) << result.err;
}

TEST(CommandLine, AMissingModelHasItsOwnExitCode) {
    auto const result = cli({"serve", "--model", "there-is-no-such-model"});
    EXPECT_EQ(result.exit, kExitModelMissing);
    EXPECT_NE(result.err.find("there-is-no-such-model"), std::string::npos);
}

TEST(CommandLine, AnOriginThatCouldNeverComeIsNamedBeforeAnythingStarts) {
    auto const result = cli({"serve", "--model", "there-is-no-such-model", "--allowed-origin", "http://*.lan:*"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("--allowed-origin: "), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("'http://*.lan:*'"), std::string::npos) << result.err;
}

TEST(CommandLine, AFileThatIsNoPublicPrefixIsNamed) {
    for (auto const& [text, why] :
         {std::pair{std::string(), "is empty"}, std::pair{std::string(65537, 'x'), "holds more"},
          std::pair{std::string("\xff"), "does not"}, std::pair{std::string(1, '\0'), "does not"}}) {
        auto const path = testing::TempDir() + "hearth_public_prefix";
        std::ofstream(path, std::ios::binary) << text << '\n';
        auto const result = cli({"serve", "--model", "x", "--public-prefix", path});
        EXPECT_NE(result.exit, kExitOk);
        EXPECT_NE(result.err.find("--public-prefix"), std::string::npos) << result.err;
        EXPECT_NE(result.err.find(why), std::string::npos) << result.err;
    }
    auto const missing = cli({"serve", "--model", "x", "--public-prefix", "/nonexistent"});
    EXPECT_NE(missing.err.find("'/nonexistent': No such file"), std::string::npos) << missing.err;
}

TEST(CommandLine, ATenantFlagThatMeansNothingIsNamed) {
    for (std::string const weight : {"acme", "acme=", "=2", "acme=0", "acme=101", "acme=x", "acme=1x"}) {
        auto const result = cli({"serve", "--model", "x", "--tenant-weight", weight});
        EXPECT_EQ(result.exit, kExitUsage) << weight;
        EXPECT_NE(result.err.find("got '" + weight + "'"), std::string::npos) << result.err;
    }
    auto const result = cli({"serve", "--model", "x", "--tenant-header", "x tenant"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("'x tenant'"), std::string::npos) << result.err;
}

TEST(CommandLine, AKeepAliveThatMeansNothingIsNamedBeforeAnythingStarts) {
    for (std::string const bad : {"soon", "31536001", "small=", "=60"}) {
        auto const result = cli({"serve", "--model", "there-is-no-such-model", "--keep-alive", bad});
        EXPECT_EQ(result.exit, kExitUsage) << bad;
        EXPECT_NE(result.err.find("got '" + bad + "'"), std::string::npos) << result.err;
    }
}

TEST(CommandLine, ADraftGuessesABoundedNumberOfTokens) {
    auto const result = cli({"serve", "--model", "x", "--draft-max", "65"});
    EXPECT_EQ(result.exit, kExitUsage);
    EXPECT_NE(result.err.find("--draft-max"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("65"), std::string::npos) << result.err;
}

TEST(CommandLine, EveryBenchOptionIsOffered) {
    auto const result = cli({"bench", "serve", "--help"});
    EXPECT_EQ(result.exit, kExitOk);
    EXPECT_NE(result.out.find("--concurrency"), std::string::npos);
}

TEST(CommandLine, CompletionScriptsKnowEveryCommand) {
    for (auto const* shell : {"bash", "zsh", "fish"}) {
        auto const script = cli({"completion", shell}).out;
        for (auto const* word :
             {"serve", "run", "check", "list", "show", "bench", "sim", "version", "kv-cells", "draft-max"}) {
            EXPECT_NE(script.find(word), std::string::npos) << shell << " lacks " << word;
        }
    }
}

TEST(CommandLine, FishTellsServeFromBenchServe) {
    auto const script = cli({"completion", "fish"}).out;
    EXPECT_NE(script.find("'__fish_seen_subcommand_from serve; and not __fish_seen_subcommand_from bench' -l model"),
              std::string::npos)
        << script;
    EXPECT_NE(script.find("'__fish_seen_subcommand_from bench; and __fish_seen_subcommand_from serve' -l concurrency"),
              std::string::npos);
}

}  // namespace
}  // namespace hearth::app
