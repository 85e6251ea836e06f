#include "catalog/create.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;
using models::testing::tiny_llama;

class catalog_create : public ::testing::Test {
protected:
    void SetUp() override { std::ofstream(folder / "base.gguf", std::ios::binary) << tiny_llama().build(); }

    Result<Created> create(std::string const& name, std::string const& text) {
        auto const parsed = modelfile::parse_modelfile(text);
        if (!parsed) return parsed.error();
        return create_model(name, *parsed, {folder.path()});
    }
    std::string refused(std::string const& name, std::string const& text) {
        auto const created = create(name, text);
        return created ? "created" : created.error().message;
    }
    modelfile::Definition definition(std::string const& name) {
        auto read = definition_of(name, folder / (name + ".gguf"), {folder.path()});
        EXPECT_TRUE(read) << read.error().message;
        return read ? *std::move(read) : modelfile::Definition();
    }
    // Whatever is not whole has a name of its own.
    std::size_t entries() {
        return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()));
    }

    hearth::testing::TemporaryFolder folder;
};

TEST_F(catalog_create, makes_a_model_of_another_that_takes_no_room) {
    auto const created = create("Mario:latest", "FROM base\nSYSTEM You are Mario.\nPARAMETER temperature 0.5");
    ASSERT_TRUE(created) << created.error().message;
    EXPECT_EQ(created->name, "Mario");
    EXPECT_TRUE(created->warnings.empty());
    EXPECT_TRUE(fs::equivalent(created->path, folder / "base.gguf"));
    EXPECT_EQ(entries(), 3U);
    auto const mario = definition("Mario");
    EXPECT_EQ(mario.system, "You are Mario.");
    EXPECT_EQ(mario.options, R"({"temperature":0.5})");
    EXPECT_EQ(mario.from, "base");
    EXPECT_TRUE(definition("base").plain());
}

TEST_F(catalog_create, a_model_of_a_created_one_begins_with_what_that_says) {
    ASSERT_TRUE(create("a", "FROM base\nSYSTEM s\nPARAMETER top_k 3\nPARAMETER stop x"));
    ASSERT_TRUE(create("b:7b", "FROM a\nPARAMETER stop y\nTEMPLATE {{ .Prompt }}"));
    auto const b = definition("b:7b");
    EXPECT_EQ(b.system, "s");
    EXPECT_EQ(b.options, R"({"top_k":3,"stop":["y"]})");
    EXPECT_EQ(b.template_text, "{{ .Prompt }}");
}

TEST_F(catalog_create, replaces_only_what_it_created) {
    ASSERT_TRUE(create("a", "FROM base\nSYSTEM one"));
    ASSERT_TRUE(create("a", "FROM base\nSYSTEM two"));
    EXPECT_EQ(definition("a").system, "two");
    std::ofstream(folder / "own.gguf", std::ios::binary) << tiny_llama().build();
    EXPECT_NE(refused("own", "FROM base").find("already that was not created here"), std::string::npos);
    EXPECT_FALSE(fs::exists(folder / "own.hearth.json"));
    EXPECT_EQ(refused("base", "FROM base\nSYSTEM own words"), "created");
    EXPECT_EQ(definition("base").system, "own words");
}

TEST_F(catalog_create, keeps_adapters_beside_the_model_and_no_longer_than_it) {
    hearth::testing::TemporaryFolder elsewhere;
    auto const adapter = elsewhere / "pirate.gguf", other = elsewhere / "other.gguf";
    std::ofstream(adapter, std::ios::binary) << models::testing::tiny_adapter().build();
    std::ofstream(other, std::ios::binary) << models::testing::tiny_adapter(32, 2).build();
    ASSERT_TRUE(create("a", "FROM base\nADAPTER " + adapter + "\nADAPTER " + other));
    auto const both = definition("a").adapters;
    EXPECT_EQ(both, (std::vector<modelfile::Adapter>{{folder / "a.lora-1", 1}, {folder / "a.lora-2", 1}}));
    EXPECT_TRUE(fs::equivalent(both[0].file, adapter)) << "it takes no room";
    EXPECT_TRUE(fs::equivalent(folder / "a.gguf", folder / "base.gguf"));

    ASSERT_TRUE(create("b", "FROM a\nSYSTEM s"));
    EXPECT_EQ(definition("b").adapters.size(), 2U) << "a model of it has them too";
    ASSERT_TRUE(copy_definition(folder.path(), "b", "c"));
    EXPECT_TRUE(fs::equivalent(folder / "c.lora-2", other));
    ASSERT_TRUE(remove_definition(folder.path(), "c"));
    EXPECT_FALSE(fs::exists(folder / "c.lora-1"));

    ASSERT_TRUE(create("a", "FROM base\nADAPTER " + other));
    EXPECT_TRUE(fs::equivalent(folder / "a.lora-1", other));
    EXPECT_FALSE(fs::exists(folder / "a.lora-2"));
    ASSERT_TRUE(create("a", "FROM base"));
    EXPECT_FALSE(fs::exists(folder / "a.lora-1"));
    EXPECT_TRUE(fs::exists(folder / "b.lora-1"));
    EXPECT_TRUE(fs::exists(adapter));
    // base, and of a and b model and note, and b's adapters.
    EXPECT_EQ(entries(), 7U);
}

TEST_F(catalog_create, makes_nothing_of_an_adapter_of_another_model) {
    hearth::testing::TemporaryFolder elsewhere;
    std::ofstream(elsewhere / "wide.gguf", std::ios::binary) << models::testing::tiny_adapter(64).build();
    auto const why = refused("a", "FROM base\nADAPTER " + elsewhere / "wide.gguf");
    EXPECT_NE(why.find("is it the adapter of another model?"), std::string::npos) << why;
    EXPECT_EQ(entries(), 1U);
}

TEST_F(catalog_create, says_what_it_cannot_make_and_leaves_nothing) {
    EXPECT_NE(refused("a", "FROM nobody").find("nobody"), std::string::npos);
    EXPECT_NE(refused("a", "FROM base\nADAPTER /nonexistent/x.gguf").find("/nonexistent/x.gguf"), std::string::npos);
    EXPECT_NE(refused("a", "FROM base\nADAPTER " + folder / "base.gguf").find("not an adapter"), std::string::npos);
    EXPECT_NE(refused("me/a", "FROM base").find("namespace"), std::string::npos);
    EXPECT_NE(refused("../a", "FROM base"), "created");
    std::ofstream(folder / "bad.gguf", std::ios::binary) << "GGUF";
    EXPECT_NE(refused("a", "FROM bad").find("bad.gguf"), std::string::npos);
    EXPECT_EQ(entries(), 2U);
    EXPECT_FALSE(create_model("a", {}, {}));
}

TEST_F(catalog_create, warns_of_a_template_that_changes_nothing) {
    auto const created = create("a", "FROM base\nTEMPLATE {{ .Prompt }}");
    ASSERT_TRUE(created);
    ASSERT_EQ(created->warnings.size(), 1U);
    EXPECT_NE(created->warnings.front().find("TEMPLATE"), std::string::npos);
}

TEST_F(catalog_create, a_note_that_is_none_is_an_error) {
    std::ofstream(folder / "base.hearth.json") << "[]";
    auto const read = definition_of("base", folder / "base.gguf", {folder.path()});
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Code::corrupt);
    EXPECT_NE(read.error().message.find("base.hearth.json"), std::string::npos);
}

}  // namespace
}  // namespace hearth::catalog
