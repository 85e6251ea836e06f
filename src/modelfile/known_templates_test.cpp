#include "modelfile/known_templates.h"

#include <set>

#include <gtest/gtest.h>

#include "digest/sha256.h"

namespace hearth::modelfile {
namespace {

TEST(KnownTemplates, TheBuiltInListIsWhole) {
    auto const list = parse_known_templates(std::string(builtin_known_templates()));
    ASSERT_TRUE(list) << list.error().message;
    EXPECT_GE(list->size(), 20U);
    std::set<std::string> names, keys;
    for (auto const& known : *list) {
        names.insert(known.name);
        keys.insert(known.sha256);
    }
    EXPECT_EQ(names.size(), list->size());
    EXPECT_EQ(keys.size(), list->size());
    EXPECT_TRUE(names.contains("chatml") && names.contains("llama3-instruct") && names.contains("gemma-instruct"));
}

TEST(KnownTemplates, ATemplateIsKnownWhateverItsLineEndsAndMargins) {
    auto const key = template_key("{{ .Prompt }}\nx");
    EXPECT_EQ(key, digest::sha256_hex("{{ .Prompt }}\nx"));
    EXPECT_EQ(template_key("\n {{ .Prompt }}\r\nx \n"), key);
    EXPECT_NE(template_key("{{ .Prompt }} \nx"), key) << "within it every byte counts";
    EXPECT_EQ(template_key(" \n"), "");
}

// As `ollama show` prints it of llama2 and codellama.
TEST(KnownTemplates, FindsWhatAModelfileQuotes) {
    auto const* const known = find_known_template("[INST] <<SYS>>{{ .System }}<</SYS>>\n\n{{ .Prompt }} [/INST]\n");
    ASSERT_NE(known, nullptr);
    EXPECT_EQ(known->name, "codellama");
}

TEST(KnownTemplates, WhatIsNotListedIsNotGuessedAt) {
    EXPECT_EQ(find_known_template("{{ .Prompt }}!"), nullptr);
    EXPECT_EQ(find_known_template(""), nullptr);
    EXPECT_EQ(find_known_template("\n"), nullptr);
}

TEST(KnownTemplates, RefusesListsThatAreNone) {
    for (auto const* text : {"", "{}", "[1]", "[{}]", R"([{"name": "x", "sha256": "abc", "jinja": "y"}])",
                             R"([{"name": "x", "jinja": "y"}])"})
        EXPECT_FALSE(parse_known_templates(text)) << text;
}

}  // namespace
}  // namespace hearth::modelfile
