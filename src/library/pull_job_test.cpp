#include "library/pull_job.h"

#include <gtest/gtest.h>

namespace hearth::library {
namespace {

catalog::KnownModel known(std::string name, std::string source) {
    catalog::KnownModel out;
    out.name = std::move(name);
    out.source = std::move(source);
    return out;
}
std::vector<catalog::KnownModel> const kKnown{known("small:1b", "hf.co/org/repo/small-Q4_0.gguf"),
                                              known("odd", "pypi package 1 file")};

std::string source_of(PullWish const& wish) {
    auto const target = resolve_wish(wish, kKnown);
    return target ? fetch::to_string(target->reference) + "|" + target->rename : target.error().message;
}

TEST(PullWish, SaysWhereFrom) {
    EXPECT_EQ(source_of({"hf.co/org/repo:Q4_0", "", false}), "hf.co/org/repo:Q4_0|");
    EXPECT_EQ(source_of({"127.0.0.1:5000/me/m:tag", "", false}), "127.0.0.1:5000/me/m:tag|");
    EXPECT_EQ(source_of({"mine", "https://example.org/a.gguf", false}), "https://example.org/a.gguf|mine");
    EXPECT_EQ(source_of({"Small:1B", "", false}), "hf.co/org/repo:small-Q4_0.gguf|") << "a known model";
    EXPECT_EQ(source_of({"smollm2", "", false}), "registry.ollama.ai/library/smollm2:latest|")
        << "as Ollama understands a bare name";
    EXPECT_EQ(source_of({"smollm2:135m", "", false}), "registry.ollama.ai/library/smollm2:135m|");
    EXPECT_EQ(source_of({"ODD", "", false}), "registry.ollama.ai/library/ODD:latest|")
        << "a known model from where nobody can fetch it";
}

TEST(PullWish, HoldsAKnownModelToWhatWasPublishedOfIt) {
    auto list = kKnown;
    list.front().sha256 = list.back().sha256 = std::string(64, 'a');
    EXPECT_EQ(resolve_wish({"small:1b", "", false}, list)->sha256, std::string(64, 'a'));
    EXPECT_EQ(resolve_wish({"odd", "", false}, list)->sha256, "") << "another source has other bytes";
}

TEST(PullWish, RefusesWhatIsNone) {
    EXPECT_EQ(source_of({"", "", false}), "which model to pull is not said");
    EXPECT_EQ(resolve_wish({"a/b", "hf.co/o/r", false}, {}).error().param, "model") << "no name for a file";
    EXPECT_FALSE(resolve_wish({"bad name", "", false}, {}));
}

TEST(PullWish, TravelsAsAPayload) {
    for (std::uint64_t const limit : {0U, 4096U}) {
        PullWish const wish{"a \"name\"", "https://example.org/ü", true, limit};
        auto const back = from_payload(to_payload(wish));
        ASSERT_TRUE(back);
        EXPECT_EQ(*back, wish);
    }
    for (auto const* bad :
         {"", "[]", "{}", R"({"model":1,"source":"","insecure":false})", R"({"model":"a","source":""})"})
        EXPECT_EQ(from_payload(bad).error().code, Code::corrupt) << bad;
}

TEST(Pulled, IsNamedAsItWasAskedFor) {
    fetch::Pulled pulled;
    pulled.model = "small-Q4_0";
    pulled.source = "hf.co/org/repo";
    EXPECT_TRUE(is_named_otherwise({"hf.co/org/repo:Q4_0", "", false}, pulled));
    EXPECT_FALSE(is_named_otherwise({"Small-q4_0:latest", "", false}, pulled)) << "that is what it is called";
    EXPECT_FALSE(is_named_otherwise({"mine", "hf.co/org/repo", false}, pulled)) << "it is called so by the wish";
    EXPECT_FALSE(is_named_otherwise({"https://host/small-Q4_0.gguf?signature=secret", "", false}, pulled));
    pulled.source = "/models/small-Q4_0.gguf";
    EXPECT_FALSE(is_named_otherwise({"./small-Q4_0.gguf", "", false}, pulled)) << "a path is no name";
}

}  // namespace
}  // namespace hearth::library
