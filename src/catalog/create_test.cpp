#include "catalog/create.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include <gtest/gtest.h>

#include "catalog/layouts.h"
#include "fetch/folder_lock.h"
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

TEST_F(catalog_create, what_ollamas_manifest_puts_on_top_is_an_adapter) {
    std::string const weights(64, 'a'), adapter(64, 'b');
    fs::create_directories(folder / "blobs");
    std::ofstream(folder / ("blobs/sha256-" + weights), std::ios::binary) << "12345";
    std::ofstream(folder / ("blobs/sha256-" + adapter), std::ios::binary) << "123";
    fs::create_directories(folder / "manifests/registry.ollama.ai/library/tiny");
    auto const layer = [](char const* kind, std::string const& hex, int size) {
        return R"({"mediaType":"application/vnd.ollama.image.)" + std::string(kind) + R"(","digest":"sha256:)" + hex +
               R"(","size":)" + std::to_string(size) + "}";
    };
    std::ofstream(folder / "manifests/registry.ollama.ai/library/tiny/latest")
        << R"({"layers":[)" + layer("model", weights, 5) + "," + layer("adapter", adapter, 3) + "]}";
    auto const path = fs::canonical(folder / ("blobs/sha256-" + weights)).string();
    auto const read = definition_of("tiny:latest", path, {folder.path()});
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(read->adapters.size(), 1U);
    EXPECT_TRUE(read->adapters[0].file.ends_with("sha256-" + adapter)) << read->adapters[0].file;
    EXPECT_EQ(read->adapters[0].scale, 1);
}

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

TEST_F(catalog_create, deletes_no_file_that_a_note_only_names) {
    auto const names_others = [&](std::string const& model) {
        std::ofstream(folder / "a.lora-1") << "a's";
        std::ofstream(folder / (model + ".hearth.json"))
            << R"({"source": "create", "adapters": [{"file": "base.gguf"}, {"file": "a.lora-1"}]})";
    };
    names_others("b");
    ASSERT_TRUE(remove_definition(folder.path(), "b"));
    EXPECT_FALSE(fs::exists(folder / "b.hearth.json"));
    EXPECT_TRUE(fs::exists(folder / "base.gguf"));
    EXPECT_TRUE(fs::exists(folder / "a.lora-1")) << "it is another model's";
    names_others("a");
    ASSERT_TRUE(remove_definition(folder.path(), "a"));
    EXPECT_FALSE(fs::exists(folder / "a.lora-1"));
    EXPECT_TRUE(fs::exists(folder / "base.gguf"));
}

TEST_F(catalog_create, says_which_of_its_errors_are_about_adapters) {
    hearth::testing::TemporaryFolder elsewhere;
    auto const fits = elsewhere / "fits.gguf", wide = elsewhere / "wide.gguf";
    std::ofstream(fits, std::ios::binary) << models::testing::tiny_adapter().build();
    std::ofstream(wide, std::ios::binary) << models::testing::tiny_adapter(64).build();
    std::ofstream(folder / "own.gguf", std::ios::binary) << tiny_llama().build();
    EXPECT_EQ(create("a", "FROM base\nADAPTER " + wide).error().param, kAdaptersParam);
    EXPECT_EQ(create("a", "FROM base\nADAPTER " + folder / "base.gguf").error().param, kAdaptersParam);
    EXPECT_EQ(create("own", "FROM base\nADAPTER " + fits).error().param, "model");
    EXPECT_EQ(create("a", "FROM nobody\nADAPTER " + fits).error().code, Code::not_found);
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
    EXPECT_NE(refused("me.org/a/b/c", "FROM base"), "created");
    EXPECT_NE(refused("../a", "FROM base"), "created");
    EXPECT_NE(refused(std::string(150, 'h') + "/ns/" + std::string(80, 'm'), "FROM base").find("the limit is 200"),
              std::string::npos);
    std::ofstream(folder / "bad.gguf", std::ios::binary) << "GGUF";
    EXPECT_NE(refused("a", "FROM bad").find("bad.gguf"), std::string::npos);
    EXPECT_EQ(entries(), 2U);
    EXPECT_FALSE(create_model("a", {}, {}));
}

TEST_F(catalog_create, a_name_may_say_a_namespace_and_a_host) {
    auto const created = create("127.0.0.1:5000/ns/a:7b", "FROM base\nSYSTEM s");
    ASSERT_TRUE(created) << created.error().message;
    EXPECT_EQ(created->name, "127.0.0.1:5000/ns/a:7b");
    EXPECT_EQ(created->path, folder / "127.0.0.1:5000%2Fns%2Fa:7b.gguf");
    ASSERT_TRUE(create("me/b:latest", "FROM 127.0.0.1:5000/ns/a:7b\nPARAMETER top_k 3"));
    auto const b = definition_of("me/b", folder / "me%2Fb.gguf", {folder.path()});
    ASSERT_TRUE(b) << b.error().message;
    EXPECT_EQ(b->system, "s");
    std::vector<std::string> names;
    for (auto const& model : find_models({folder.path()}).models) names.push_back(model.name);
    EXPECT_EQ(names, (std::vector<std::string>{"127.0.0.1:5000/ns/a:7b", "base", "me/b"}));
    EXPECT_EQ(entries(), 5U) << "base, and of both a model and a note: all of them in the folder itself";
}

TEST_F(catalog_create, what_is_recorded_of_the_weights_is_recorded_of_what_is_made) {
    std::string const hex(64, 'a');
    std::ofstream(folder / "base.hearth.json")
        << R"({"source": "hf.co/o/r", "revision": "r1", "files": [{"name": "base.gguf", "size": 5, "sha256": ")" << hex
        << R"(", "etag": "\"e\""}]})";
    ASSERT_TRUE(create("a", "FROM base"));
    EXPECT_EQ(definition("a").source, "create");
    auto const size = fs::file_size(folder / "base.gguf");
    EXPECT_EQ(definition("a").files, (std::vector<modelfile::RecordedFile>{{"a.gguf", size, hex, ""}}));
    ASSERT_TRUE(copy_definition(folder.path(), "base", "me/c"));
    fs::create_hard_link(folder / "base.gguf", folder / "me%2Fc.gguf");
    auto const copied = definition_of("me/c", folder / "me%2Fc.gguf", {folder.path()});
    ASSERT_TRUE(copied) << copied.error().message;
    EXPECT_EQ(copied->source, "hf.co/o/r");
    EXPECT_EQ(copied->revision, "r1");
    EXPECT_EQ(copied->files, (std::vector<modelfile::RecordedFile>{{"me%2Fc.gguf", 5, hex, "\"e\""}}));
    for (auto const& model : find_models({folder.path()}).models)
        EXPECT_TRUE(model.files.front().recorded && model.files.front().sha256 == hex) << model.name;
}

TEST_F(catalog_create, weights_that_cannot_be_placed_leave_the_model_as_it_was) {
    hearth::testing::TemporaryFolder elsewhere;
    std::ofstream(elsewhere / "one.gguf", std::ios::binary) << models::testing::tiny_adapter().build();
    ASSERT_TRUE(create("a", "FROM base\nSYSTEM one\nADAPTER " + elsewhere / "one.gguf"));
    auto const before = definition("a");
    auto const files_before = entries();
    std::ofstream(folder / "other.gguf", std::ios::binary) << tiny_llama(0, 64).build();
    // A folder where a file is to be: as a disk without room, neither a link nor a copy can be there.
    fs::create_directories(folder / "a.gguf.new/full");
    auto const with_others = [&] {
        return create_model("a", *modelfile::parse_modelfile("FROM base\nSYSTEM two"), {folder.path()},
                            {folder / "other.gguf", {std::string(64, 'b')}});
    };
    ASSERT_FALSE(with_others());
    EXPECT_EQ(definition("a"), before) << "it speaks of the weights that are there";
    EXPECT_TRUE(fs::equivalent(folder / "a.gguf", folder / "base.gguf"));
    EXPECT_TRUE(fs::equivalent(folder / "a.lora-1", elsewhere / "one.gguf"));
    EXPECT_EQ(entries(), files_before + 2) << "the other weights and that folder";
    fs::remove_all(folder / "a.gguf.new");
    ASSERT_TRUE(with_others());
    EXPECT_EQ(definition("a").system, "two");
    EXPECT_TRUE(fs::equivalent(folder / "a.gguf", folder / "other.gguf"));
}

TEST_F(catalog_create, an_adapter_that_cannot_be_placed_leaves_the_others) {
    hearth::testing::TemporaryFolder elsewhere;
    auto const one = elsewhere / "one.gguf", two = elsewhere / "two.gguf";
    std::ofstream(one, std::ios::binary) << models::testing::tiny_adapter().build();
    std::ofstream(two, std::ios::binary) << models::testing::tiny_adapter(32, 2).build();
    ASSERT_TRUE(create("a", "FROM base\nADAPTER " + one + "\nADAPTER " + two));
    auto const before = definition("a");
    fs::create_directories(folder / "a.lora-2.new/full");
    EXPECT_FALSE(create("a", "FROM base\nADAPTER " + two + "\nADAPTER " + one));
    EXPECT_TRUE(fs::equivalent(folder / "a.lora-1", one));
    EXPECT_FALSE(fs::exists(folder / "a.lora-1.new"));
    EXPECT_EQ(definition("a"), before);
}

TEST_F(catalog_create, other_weights_have_the_hash_that_comes_with_them) {
    std::ofstream(folder / "other.bin", std::ios::binary) << tiny_llama().build();
    ASSERT_TRUE(create_model("a", {}, {folder.path()}, {folder / "other.bin", {std::string(64, 'b')}}));
    EXPECT_EQ(definition("a").files.at(0).sha256, std::string(64, 'b'));
    ASSERT_TRUE(create_model("a", {}, {folder.path()}, {folder / "other.bin", {}}));
    EXPECT_EQ(definition("a").files.at(0).sha256, "") << "nobody says it";
}

TEST_F(catalog_create, copies_of_the_other_models_weights_are_recorded_as_those_are) {
    hearth::testing::TemporaryFolder elsewhere;
    std::string const hex(64, 'a');
    std::ofstream(folder / "base.hearth.json")
        << R"({"source": "hf.co/o/r", "files": [{"name": "base.gguf", "size": 5, "sha256": ")" << hex << R"("}]})";
    fs::copy_file(folder / "base.gguf", elsewhere / "copy.gguf");
    NewWeights copy;
    copy.path = elsewhere / "copy.gguf";
    copy.copied = true;
    auto const parsed = *modelfile::parse_modelfile("FROM base");
    ASSERT_TRUE(create_model("a", parsed, {folder.path()}, copy));
    EXPECT_TRUE(fs::equivalent(folder / "a.gguf", elsewhere / "copy.gguf"));
    EXPECT_EQ(definition("a").files.at(0).sha256, hex);
    fs::create_directory(elsewhere / "models");
    auto const same = create_model("base", parsed, {elsewhere / "models", folder.path()}, copy);
    EXPECT_TRUE(same) << "the model of that name is the one it is made of";
}

TEST_F(catalog_create, warns_of_a_template_that_changes_nothing) {
    auto const created = create("a", "FROM base\nTEMPLATE {{ .Prompt }}!");
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

TEST_F(catalog_create, one_process_at_a_time_changes_a_folder) {
    auto held = fetch::FolderLock::take(folder.path());
    ASSERT_TRUE(held) << held.error().message;
    auto const second = fetch::FolderLock::take(folder.path(), std::chrono::milliseconds(0));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Code::unavailable);
    EXPECT_NE(second.error().message.find(folder.path()), std::string::npos);
    std::atomic<bool> made = false;
    std::thread other([&] {
        EXPECT_TRUE(create("mine", "FROM base"));
        made = true;
    });
    // It cannot have the lock, however far it is.
    EXPECT_FALSE(fetch::FolderLock::take(folder.path(), std::chrono::milliseconds(20)));
    EXPECT_FALSE(made);
    EXPECT_EQ(entries(), 1U);
    { auto const let_go = *std::move(held); }
    other.join();
    EXPECT_TRUE(made);
    EXPECT_TRUE(fetch::FolderLock::take(folder.path())) << "it was let go";
    EXPECT_EQ(fetch::FolderLock::take(folder / "none").error().code, Code::io);
}

}  // namespace
}  // namespace hearth::catalog
