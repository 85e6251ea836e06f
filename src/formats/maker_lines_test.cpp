#include "formats/maker_lines.h"

#include <string>

#include <gtest/gtest.h>

#include "formats/maker.h"

namespace hearth::formats {
namespace {

Result<MakerLine> through(MakerLine const& line) {
    auto text = render_line(line);
    EXPECT_EQ(text.find('\n'), text.size() - 1);
    text.pop_back();
    return parse_line(text);
}

TEST(MakerLines, SayWhatTheySaid) {
    PlanLine const plan{"qwen3moe", "BF16", 290, 30'000'000'000, 61'000'000'000};
    EXPECT_EQ(*through(plan), MakerLine(plan));
    AtLine const at{3, 290, 4096, 61'000'000'000};
    EXPECT_EQ(*through(at), MakerLine(at));
    EXPECT_EQ(*through(DoneLine{"landlock abi 7, seccomp"}), MakerLine(DoneLine{"landlock abi 7, seccomp"}));
    Error const error(Code::too_large, "it has 9 of 8");
    EXPECT_EQ(*through(error), MakerLine(error));
}

TEST(MakerLines, TextNeverBreaksALine) {
    auto const line = through(Error(Code::corrupt, "a\nb\x01" + std::string(2 * kLineMax, 'x')));
    ASSERT_TRUE(line);
    EXPECT_TRUE(std::get<Error>(*line).message.starts_with("a b x"));
}

TEST(MakerLines, RefusesWhatIsNone) {
    for (auto const* text :
         {"", "plan", "plan llama F16 1 2", "plan llama F16 1 2 3 4", "plan ../x F16 1 2 3", "plan llama F16 1 2 -3",
          "plan llama F16 1 2 99999999999999999999", "at 2 1 0 0", "at 1 1 2 1", "at 1 1 1", "at 1 1 1 1x",
          "failed 99 x", "failed x", "failed", "done a\tb", "done\x7f x", "made", "PLAN llama F16 1 2 3"})
        EXPECT_FALSE(parse_line(text)) << text;
    EXPECT_FALSE(parse_line("done " + std::string(kLineMax, 'x')));
}

TEST(MakerArguments, ComeBackAsTheyWere) {
    for (auto const& task :
         {MakerTask{.source = "a b", .output = {}, .type = "auto"},
          MakerTask{.source = "a b", .output = {}, .type = "f16", .base = "b c.gguf"},
          MakerTask{.source = "m.gguf", .output = ".x.part", .type = {}, .file_type = 3, .threads = 2}}) {
        auto const parsed = parse_maker_arguments(maker_arguments(task));
        ASSERT_TRUE(parsed);
        EXPECT_EQ(*parsed, task);
    }
    for (auto const& arguments : {std::vector<std::string>{},
                                  {"convert"},
                                  {"convert", "a", ""},
                                  {"quantize", "a", "b", "3"},
                                  {"quantize", "a", "b", "x", "1"},
                                  {"other", "a", "b"}})
        EXPECT_EQ(parse_maker_arguments(arguments).error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace hearth::formats
