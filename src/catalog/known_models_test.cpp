#include "catalog/known_models.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace hearth::catalog {
namespace {

TEST(catalog_known_models, the_builtin_list_is_sound) {
    auto const models = parse_known_models(builtin_known_models());
    ASSERT_TRUE(models) << models.error().message;
    auto const smollm2 = std::ranges::find(*models, "smollm2:135m", &KnownModel::name);
    ASSERT_NE(smollm2, models->end());
    EXPECT_EQ(smollm2->bytes, 98'362'432U);
    EXPECT_EQ(smollm2->sha256.size(), 64U);
    for (auto const& model : *models) EXPECT_NE(model.name.find(':'), std::string::npos) << model.name;
}

TEST(catalog_known_models, a_users_entry_comes_before_a_builtin_one) {
    auto const own = *parse_known_models(R"([{"name": "b:1", "source": "mine"}, {"name": "z:1", "source": "mine"}])");
    auto const builtin =
        *parse_known_models(R"([{"name": "b:1", "source": "ours"}, {"name": "a:1", "source": "ours"}])");
    auto const merged = merge_known_models(own, builtin);
    ASSERT_EQ(merged.size(), 3U);
    EXPECT_EQ(merged[0].source, "ours");
    EXPECT_EQ(merged[1].source, "mine");
    EXPECT_EQ(merged[2].name, "z:1");
}

TEST(catalog_known_models, mistakes_are_refused_and_named) {
    struct Case {
        std::string json, says;
    };
    std::string const digest(64, 'A');
    for (auto const& [json, says] :
         {Case{"{}", "no JSON array"}, Case{"[", "no JSON array"}, Case{"[1]", "entry 1: is no object"},
          Case{R"([{"name": "a"}])", "needs `name` and `source`"},
          Case{R"([{"name": "a", "source": "b"}, {"name": "a", "source": "c"}])", "entry 2: 'a' is there already"},
          Case{R"([{"name": "a", "source": "b", "hash": "c"}])", "unknown field `hash`"},
          Case{R"([{"name": "a", "source": 1}])", "`source` is no string"},
          Case{R"([{"name": "a", "source": "b", "bytes": -1}])", "`bytes` is no whole number"},
          Case{R"([{"name": "a", "source": "b", "sha256": ")" + digest + R"("}])", "64 lowercase"},
          Case{R"([{"name": "a", "source": ")" + std::string(2000, 'x') + R"("}])", "2000 bytes, the limit is 1024"}}) {
        auto const parsed = parse_known_models(json);
        ASSERT_FALSE(parsed) << json;
        EXPECT_NE(parsed.error().message.find(says), std::string::npos) << parsed.error().message;
    }
    EXPECT_EQ(parse_known_models(std::string(kKnownListMax + 1, ' ')).error().code, Code::too_large);
}

}  // namespace
}  // namespace hearth::catalog
