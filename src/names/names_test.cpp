#include "names/names.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::names {
namespace {

ModelName parse(std::string_view text) {
    auto const name = parse_model_name(text);
    EXPECT_TRUE(name.has_value()) << text << ": " << (name ? "" : name.error().message);
    return name ? *name : ModelName{};
}

std::string why_not(std::string_view text) {
    auto const name = parse_model_name(text);
    return name ? "valid: " + full_name(*name) : name.error().message;
}

TEST(ModelName, SameNamesLookDifferent) {
    EXPECT_TRUE(is_same_name("smollm2", "SmolLM2:latest"));
    EXPECT_TRUE(is_same_name("registry.ollama.ai/library/smollm2:135m", "smollm2:135M"));
    EXPECT_FALSE(is_same_name("smollm2", "smollm2:135m"));
    EXPECT_FALSE(is_same_name("me/smollm2", "smollm2"));
    EXPECT_TRUE(is_same_name("a file.v1", "A file.V1")) << "no model name, and the same but for case";
    EXPECT_FALSE(is_same_name("a file", "a file:latest"));
}

TEST(ModelName, FillsInWhatIsLeftOut) {
    EXPECT_EQ(full_name(parse("smollm2")), "registry.ollama.ai/library/smollm2:latest");
    EXPECT_EQ(full_name(parse("smollm2:135m")), "registry.ollama.ai/library/smollm2:135m");
    EXPECT_EQ(full_name(parse("me/smollm2")), "registry.ollama.ai/me/smollm2:latest");
    EXPECT_EQ(full_name(parse("hf.co/me/Some-Model.GGUF:Q4_K_M")), "hf.co/me/Some-Model.GGUF:Q4_K_M");
    EXPECT_EQ(full_name(parse("localhost:5000/me/m")), "localhost:5000/me/m:latest");
    EXPECT_EQ(full_name(parse("localhost:5000/me/m:a.b-c_d")), "localhost:5000/me/m:a.b-c_d");
}

TEST(ModelName, TheFirstOfTwoPartsMayBeAHost) {
    EXPECT_EQ(full_name(parse("example.org/m")), "example.org/library/m:latest");
    EXPECT_EQ(full_name(parse("127.0.0.1:5000/m:t")), "127.0.0.1:5000/library/m:t");
    EXPECT_EQ(full_name(parse("Localhost/m")), "Localhost/library/m:latest");
    EXPECT_EQ(full_name(parse("local/m")), "registry.ollama.ai/local/m:latest");
    EXPECT_EQ(full_name(parse("[::1]:5000/m")), "[::1]:5000/library/m:latest");
    EXPECT_EQ(full_name(parse("[fe80::1]/ns/m:t")), "[fe80::1]/ns/m:t");
    for (std::string_view const text : {"[/m", "[]/m", "[::1/m", "[::1]x/n/m", "[::1]:/m", "[..]a/m", "[g::1]/m"})
        EXPECT_FALSE(parse_model_name(text).has_value()) << text;
}

TEST(ModelName, HasAShorterFormForWhatIsKeptHere) {
    EXPECT_EQ(local_name(parse("m:latest")), "m");
    EXPECT_EQ(local_name(parse("library/m:T")), "m:T");
    EXPECT_EQ(local_name(parse("me/m:LATEST")), "me/m");
    EXPECT_EQ(local_name(parse("127.0.0.1:5000/me/m:t")), "127.0.0.1:5000/me/m:t");
}

TEST(ModelName, BecomesAFilesNameAndBack) {
    EXPECT_EQ(to_file_stem("127.0.0.1:5000/me/m:t"), "127.0.0.1:5000%2Fme%2Fm:t");
    for (std::string_view const name : {"m", "me/m", "127.0.0.1:5000/me/m:t", "a b"})
        EXPECT_EQ(from_file_stem(to_file_stem(name)), name);
    for (std::string_view const stem :
         {"..%2F..%2Fetc", "%2Fetc%2Fpasswd", "a%2F%2Fb", "a%2F..", "%2F", "a%2fb", "100%"})
        EXPECT_EQ(from_file_stem(stem), stem) << "no name, so it leads nowhere";
}

TEST(ModelName, IsShownWithoutWhatIsMeantAnyway) {
    EXPECT_EQ(short_name(parse("m")), "m:latest");
    EXPECT_EQ(short_name(parse("Library/M:T")), "M:T");
    EXPECT_EQ(short_name(parse("Registry.Ollama.ai/library/m")), "m:latest");
    EXPECT_EQ(short_name(parse("registry.ollama.ai/me/m")), "me/m:latest");
    EXPECT_EQ(short_name(parse("hf.co/library/m")), "hf.co/library/m:latest");
}

TEST(ModelName, IsComparedWithoutCase) {
    EXPECT_EQ(parse("SmolLM2"), parse("smollm2:LATEST"));
    EXPECT_EQ(parse("LIBRARY/smollm2"), parse("registry.ollama.ai/library/smollm2:latest"));
    EXPECT_FALSE(parse("a") == parse("b"));
    EXPECT_FALSE(parse("a:x") == parse("a:y"));
    EXPECT_FALSE(parse("x/a") == parse("y/a"));
    EXPECT_FALSE(parse("h/x/a") == parse("i/x/a"));
}

TEST(ModelName, RefusesWhatIsNone) {
    EXPECT_EQ(why_not(""), "the model of a model name is empty");
    EXPECT_EQ(why_not(":tag"), "the model of a model name is empty");
    EXPECT_EQ(why_not("m:"), "the tag of a model name is empty");
    EXPECT_EQ(why_not("/m"), "the namespace of a model name is empty");
    EXPECT_EQ(why_not("n/"), "the model of a model name is empty");
    EXPECT_EQ(why_not("/n/m"), "the host of a model name is empty");
    EXPECT_EQ(why_not("h//m"), "the namespace of a model name is empty");
    EXPECT_EQ(why_not("-m"), "the model of a model name must begin with a letter, a digit or '_'");
    EXPECT_EQ(why_not("m:t:u"), "the model of a model name may hold letters, digits, '_' and any of '-.' only");
    EXPECT_EQ(why_not("h/a.b/m"), "the namespace of a model name may hold letters, digits, '_' and any of '-' only");
    EXPECT_EQ(why_not("a/b/c/m"), "the host of a model name may hold letters, digits, '_' and any of '-.:' only");
}

TEST(ModelName, RefusesWhatCouldLeaveAFolder) {
    for (std::string_view const text : {"..", ".", "../m", "n/..", "../../etc/passwd", "h/../m", "m:..", "m:../x",
                                        "n\\m", "h/n/.m", "m\n", "m m", "m%2f", "/etc/passwd", "~/m", "https://h/n/m"})
        EXPECT_FALSE(parse_model_name(text).has_value()) << text;
    EXPECT_FALSE(parse_model_name(std::string_view("m\0x", 3)).has_value());
    EXPECT_FALSE(parse_model_name("caf\xc3\xa9").has_value());
}

TEST(ModelName, HasALimitForEachPart) {
    std::string const part(kNamePartMax, 'x');
    std::string const host(kNameHostMax, 'h');
    EXPECT_EQ(full_name(parse(host + "/" + part + "/" + part + ":" + part)),
              host + "/" + part + "/" + part + ":" + part);
    EXPECT_EQ(why_not(part + "x"), "the model of a model name has 81 bytes, the limit is 80");
    EXPECT_EQ(why_not("m:x" + part), "the tag of a model name has 81 bytes, the limit is 80");
    EXPECT_EQ(why_not("x" + part + "/m"), "the namespace of a model name has 81 bytes, the limit is 80");
    EXPECT_EQ(why_not(host + "x/n/m"), "the host of a model name has 351 bytes, the limit is 350");
    EXPECT_EQ(why_not(std::string(1 << 20, 'x')), "a model name has 1048576 bytes, the limit is 593");
}

// Whatever the bytes: what parses is safe as a path, reads back as itself, and is the same in any case.
TEST(ModelName, KeepsItsPromisesForAnyBytes) {
    std::mt19937 random(7);
    std::string_view const kAlphabet = "aZ09_-.:/\\ \n%\xc3";
    std::size_t valid = 0;
    for (int round = 0; round < 200'000; ++round) {
        std::string text(random() % 12, ' ');
        for (char& c : text) c = kAlphabet[random() % (round % 2 == 0 ? kAlphabet.size() : 9)];
        auto const name = parse_model_name(text);
        if (!name) continue;
        ++valid;
        for (auto const& part : {name->host, name->space, name->model, name->tag}) {
            ASSERT_TRUE(part != "." && part != ".." && !part.empty()) << text;
            ASSERT_EQ(part.find_first_of("/\\ \n%\xc3"), std::string::npos) << text;
        }
        for (auto const& shown : {full_name(*name), short_name(*name), local_name(*name)}) {
            auto const again = parse_model_name(shown);
            ASSERT_TRUE(again.has_value()) << text << " became " << shown;
            ASSERT_EQ(*again, *name) << text;
            ASSERT_EQ(from_file_stem(to_file_stem(shown)), shown);
        }
    }
    EXPECT_GT(valid, 1000U);
}

}  // namespace
}  // namespace hearth::names
