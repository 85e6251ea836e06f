#include "modelfile/modelfile.h"

#include <gtest/gtest.h>

namespace hearth::modelfile {
namespace {

std::string refused(std::string_view text) {
    auto const parsed = parse_modelfile(text);
    return parsed ? "accepted" : parsed.error().message;
}

TEST(ParseModelfile, ReadsEveryCommandInAnyCase) {
    auto const parsed = parse_modelfile(
        "\xEF\xBB\xBF# a pirate\r\n"
        "FROM ./base.gguf  \r\n"
        "\n"
        "  parameter Temperature 0.5\n"
        "PARAMETER stop \"<|im_end|>\"\n"
        "PARAMETER stop \"User: \"\n"
        "Template \"\"\"{{ .System }}\n{{ .Prompt }}\"\"\"  \n"
        "SYSTEM You are a \"pirate\" # no comment\n"
        "LICENSE \"\"\"\nfree\n\"\"\"\n"
        "MESSAGE user Ahoy!\n"
        "message ASSISTANT \"two\nlines\"\n"
        "ADAPTER ./a.gguf\n"
        "REQUIRES 0.14.0");
    ASSERT_TRUE(parsed) << parsed.error().message;
    Modelfile expected;
    expected.from = "./base.gguf";
    expected.parameters = {{"temperature", "0.5"}, {"stop", "<|im_end|>"}, {"stop", "User: "}};
    expected.template_text = "{{ .System }}\n{{ .Prompt }}";
    expected.system = "You are a \"pirate\" # no comment";
    expected.licenses = {"\nfree\n"};
    expected.messages = {{"user", "Ahoy!"}, {"assistant", "two\nlines"}};
    expected.adapters = {"./a.gguf"};
    expected.needs = "0.14.0";
    EXPECT_EQ(*parsed, expected);
}

TEST(ParseModelfile, KeepsBlanksInsideMarks) {
    auto const parsed = parse_modelfile("FROM a\nSYSTEM \"\"\"  first  \n\n last \"\"\"");
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->system, "  first  \n\n last ");
}

TEST(ParseModelfile, NamesTheLineOfAnError) {
    EXPECT_EQ(refused(""), "no FROM line");
    EXPECT_EQ(refused("SYSTEM x"), "no FROM line");
    EXPECT_EQ(refused("FROM a\nFROM b"), "line 2: a second FROM: a model of several files is not supported");
    EXPECT_EQ(refused("FROM"), "line 1: FROM names nothing");
    EXPECT_TRUE(refused("FROM a\n\nTEMPERATURE 1").starts_with("line 3: command must be one of \"from\""));
    EXPECT_EQ(refused("FROM a\nSYSTEM \"\"\"open\n\n"), "line 2: a text opened by \"\"\" has no end");
    EXPECT_EQ(refused("FROM a\nMESSAGE oracle x"),
              "line 2: message role must be one of \"system\", \"user\", or \"assistant\"");
    EXPECT_EQ(refused("FROM a\nPARAMETER temperature"), "line 2: PARAMETER needs a name and a value");
    EXPECT_EQ(refused("FROM a\nPARAMETER warmth 1"), "unknown parameter 'warmth'");
    EXPECT_EQ(refused("FROM a\nPARAMETER temperature hot"), "parameter 'temperature' must be a number, got 'hot'");
    EXPECT_EQ(refused("FROM a\xff"), "a Modelfile must be UTF-8");
}

TEST(ParseModelfile, HasLimits) {
    EXPECT_NE(refused(std::string(kBytesMax + 1, '\n')).find("the limit is 4194304"), std::string::npos);
    auto const repeated = [](std::string const& line, std::size_t count) {
        std::string text = "FROM a\n";
        for (std::size_t i = 0; i < count; ++i) text += line + "\n";
        return refused(text);
    };
    EXPECT_EQ(repeated("MESSAGE user x", kMessagesMax), "accepted");
    EXPECT_EQ(repeated("MESSAGE user x", kMessagesMax + 1), "line 1026: more than 1024 messages");
    EXPECT_EQ(repeated("PARAMETER stop x", kParametersMax + 1), "line 258: more than 256 parameters");
    EXPECT_EQ(repeated("LICENSE x", kLicensesMax + 1), "line 66: more than 64 lines of LICENSE");
    EXPECT_EQ(repeated("ADAPTER x", kAdaptersMax + 1), "line 18: more than 16 lines of ADAPTER");
}

TEST(WriteModelfile, ReadsBackAsTheSame) {
    for (std::string const text : {"x", "", " x", "x ", "\"x\"", "a\nb", "a\n", "\n", "ends with \"", "\"\"",
                                   "a \"\"\" b", "a\"\"\"", "#x", "a\r\nb", "tab\t"}) {
        Modelfile modelfile;
        modelfile.from = "a b";
        modelfile.system = modelfile.template_text = text;
        modelfile.licenses = {text, text};
        modelfile.messages = {{"user", text}, {"assistant", "y"}};
        modelfile.parameters = {{"stop", "x " + text}, {"num_ctx", "12"}};
        auto const written = write_modelfile(modelfile);
        ASSERT_TRUE(written) << text;
        auto const again = parse_modelfile(*written);
        ASSERT_TRUE(again) << *written << again.error().message;
        EXPECT_EQ(*again, modelfile) << *written;
    }
}

TEST(WriteModelfile, RefusesWhatNoMarksCanHold) {
    Modelfile modelfile;
    modelfile.from = "a";
    modelfile.system = "x\"\"\"\ny";
    EXPECT_FALSE(write_modelfile(modelfile));
}

}  // namespace
}  // namespace hearth::modelfile
