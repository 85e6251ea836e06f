#include "modelfile/definition.h"

#include <gtest/gtest.h>

namespace hearth::modelfile {
namespace {

Definition pirate() {
    Definition out;
    out.source = "create";
    out.from = "base:latest";
    out.template_text = "{{ .Prompt }}";
    out.system = "You are a pirate.\n\"Arr\"";
    out.options = R"({"temperature":0.5,"stop":["a"]})";
    out.license = "MIT";
    out.needs = "0.14.0";
    out.messages = {{"user", "Ahoy"}, {"assistant", "Arr"}};
    out.adapters = {{"pirate.lora-1", 0.5F}, {"pirate.lora-2", 1}};
    return out;
}

TEST(Definition, ReadsBackAsTheSame) {
    auto const read = read_definition(write_definition(pirate()));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, pirate());
    EXPECT_FALSE(pirate().plain());
    auto const empty = read_definition(write_definition({}));
    ASSERT_TRUE(empty);
    EXPECT_EQ(*empty, Definition());
    EXPECT_TRUE(empty->plain());
}

TEST(Definition, NamesAdaptersBesideItAndNowhereElse) {
    auto const read = [](std::string const& adapters) { return read_definition("{\"adapters\":" + adapters + "}"); };
    auto const one = read(R"([{"file":"a.lora-1"}])");
    ASSERT_TRUE(one) << one.error().message;
    EXPECT_EQ(one->adapters, (std::vector<Adapter>{{"a.lora-1", 1}}));
    std::string many = "[";
    for (std::size_t i = 0; i <= kAdaptersMax; ++i) many += std::string(i == 0 ? "" : ",") + R"({"file":"a"})";
    for (auto const& bad : {std::string(R"([{"file":"../a"}])"), std::string(R"([{"file":"/etc/passwd"}])"),
                            std::string(R"([{"file":".."}])"), std::string(R"([{"file":""}])"), std::string(R"(["a"])"),
                            std::string(R"([{"file":"a","scale":"1"}])"), std::string(R"({"file":"a"})"), many + "]"}) {
        auto const refused = read(bad);
        ASSERT_FALSE(refused) << bad;
        EXPECT_EQ(refused.error().code, Code::corrupt) << bad;
    }
}

TEST(Definition, AdaptersOfAModelfileTakeThePlaceOfThoseBelow) {
    Modelfile modelfile;
    modelfile.from = "base";
    EXPECT_EQ(apply(modelfile, pirate())->adapters, pirate().adapters);
    modelfile.adapters = {"/new.gguf"};
    EXPECT_EQ(apply(modelfile, pirate())->adapters, (std::vector<Adapter>{{"/new.gguf", 1}}));
}

TEST(Definition, IsWhatARegistryTold) {
    auto const read = read_definition(R"({"source": "r/l/m:t", "revision": "sha256:0", "files": [],
        "params": "{\"stop\":[\"x\"]}", "system": "s", "messages": "[{\"role\":\"user\",\"content\":\"hi\"}]"})");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->options, R"({"stop":["x"]})");
    EXPECT_EQ(read->messages, (std::vector<Message>{{"user", "hi"}}));
}

TEST(Definition, RefusesWhatIsNone) {
    EXPECT_FALSE(read_definition("[]"));
    EXPECT_FALSE(read_definition("{"));
    EXPECT_FALSE(read_definition(R"({"messages": "{}"})"));
    EXPECT_FALSE(read_definition(R"({"messages": "[{\"role\":\"oracle\"}]"})"));
    std::string many = "[";
    for (std::size_t i = 0; i <= kMessagesMax; ++i) many += std::string(i > 0 ? "," : "") + R"({"role":"user"})";
    auto const read = read_messages(many + "]");
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().message.find("the limit is 1024"), std::string::npos);
}

TEST(Definition, IsChangedByAModelfile) {
    auto const modelfile = parse_modelfile("FROM base\nPARAMETER stop b\nPARAMETER seed 7\nSYSTEM Be kind.");
    ASSERT_TRUE(modelfile);
    auto const changed = apply(*modelfile, pirate());
    ASSERT_TRUE(changed);
    auto expected = pirate();
    expected.system = "Be kind.";
    expected.options = R"({"temperature":0.5,"stop":["b"],"seed":7})";
    EXPECT_EQ(*changed, expected);
}

TEST(Definition, IsShownAsAModelfile) {
    auto const written = write_modelfile(to_modelfile(pirate(), "base"));
    ASSERT_TRUE(written);
    auto const parsed = parse_modelfile(*written);
    ASSERT_TRUE(parsed) << *written;
    auto again = apply(*parsed, {});
    ASSERT_TRUE(again);
    again->source = "create";
    again->from = "base:latest";
    auto shown = pirate();
    for (auto& adapter : shown.adapters) adapter.scale = 1;  // a Modelfile says no scale
    EXPECT_EQ(*again, shown);
}

}  // namespace
}  // namespace hearth::modelfile
