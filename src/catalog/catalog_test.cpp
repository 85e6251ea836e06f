#include "catalog/catalog.h"

#include <chrono>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "testing/gguf_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;
using models::testing::tiny_llama;

class catalog_catalog : public ::testing::Test {
protected:
    void SetUp() override { reopen(); }
    void reopen() {
        catalog.reset();
        auto opened = Catalog::open(data / "catalog.db", Access::read_write);
        ASSERT_TRUE(opened) << opened.error().message;
        catalog = std::move(opened).value();
    }
    // Every write has a time of its own, as if a second passed.
    void write(std::string const& name, std::string const& bytes) {
        auto const path = folder / name;
        std::ofstream(path, std::ios::binary) << bytes;
        fs::last_write_time(path, fs::file_time_type::clock::now() + std::chrono::seconds(++writes));
    }
    ScanReport scan() {
        auto report = catalog->scan({folder.path()});
        EXPECT_TRUE(report) << report.error().message;
        return *report;
    }

    hearth::testing::TemporaryFolder folder, data;
    std::unique_ptr<Catalog> catalog;
    int writes = 0;
};

TEST_F(catalog_catalog, says_of_a_model_what_its_file_says) {
    write("tiny.gguf", tiny_llama().text("general.license", "mit").u32("tokenizer.ggml.fim_pre_token_id", 5).build());
    EXPECT_EQ(scan().added, 1U);
    reopen();
    auto const model = catalog->find("tiny");
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(model->architecture, "llama");
    EXPECT_EQ(model->title, "tiny");
    EXPECT_EQ(model->license, "mit");
    EXPECT_EQ(model->quantization, "F32");
    EXPECT_EQ(model->context, 64U);
    EXPECT_GT(model->parameters, 1000U);
    EXPECT_EQ(model->bytes, fs::file_size(folder / "tiny.gguf"));
    EXPECT_EQ(model->capabilities, (std::vector<std::string>{"completion", "insert"}));
    EXPECT_EQ(model->template_sha256.size(), 64U);
    EXPECT_EQ(model->problem, "");
}

TEST_F(catalog_catalog, capabilities_come_from_keys_and_template) {
    write("chat.gguf", tiny_llama().text("tokenizer.chat_template", "{% if tools %}<think>{% endif %}").build());
    write("embed.gguf", tiny_llama().u32("llama.pooling_type", 1).remove("tokenizer.chat_template").build());
    scan();
    EXPECT_EQ(catalog->find("chat")->capabilities, (std::vector<std::string>{"completion", "tools", "thinking"}));
    EXPECT_EQ(catalog->find("embed")->capabilities, (std::vector<std::string>{"embedding"}));
}

TEST_F(catalog_catalog, nobody_is_promised_what_cannot_be_asked_for) {
    Model model;
    model.capabilities = {"completion", "tools", "thinking", "insert", "vision"};
    EXPECT_EQ(servable_capabilities(model), (std::vector<std::string>{"completion", "insert"}));
}

TEST_F(catalog_catalog, a_folder_of_safetensors_is_a_model_with_facts) {
    auto const weights = models::testing::SafetensorsWriter().tensor("a", "F32", {2}, "12345678").build();
    fs::create_directory(folder / "lm");
    write("lm/model.safetensors", weights);
    write("lm/config.json", R"({"model_type": "llama", "max_position_embeddings": 99})");
    EXPECT_EQ(scan().added, 1U);
    reopen();
    auto const model = catalog->find("lm");
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_TRUE(is_folder(model->files));
    EXPECT_EQ(model->architecture, "llama");
    EXPECT_EQ(model->context, 99U);
    EXPECT_EQ(model->parameters, 2U);
    EXPECT_EQ(model->problem, "");
    EXPECT_EQ(scan().unchanged, 1U);
    write("lm/config.json", R"({"model_type": "llama", "max_position_embeddings": 7})");
    EXPECT_EQ(scan().changed, 1U);
    EXPECT_EQ(catalog->find("lm")->context, 7U);
    write("lm/model.safetensors", "short");
    scan();
    EXPECT_NE(catalog->find("lm")->problem, "");
}

TEST_F(catalog_catalog, templates_of_files_that_are_no_models_of_a_folder_are_pinned_by_path) {
    auto const path = folder / "m.gguf";
    EXPECT_EQ(*catalog->compare_file("m", path, ""), Pin::same) << "nothing to pin";
    EXPECT_EQ(*catalog->compare_file("m", path, "one"), Pin::now);
    EXPECT_EQ(*catalog->compare_file("m", path, "one"), Pin::now) << "looking pins nothing";
    ASSERT_TRUE(catalog->confirm_file("m", path, "one"));
    EXPECT_EQ(*catalog->compare_file("another name", path, "one"), Pin::same);
    EXPECT_EQ(*catalog->compare_file("m", path, "two"), Pin::changed);
    EXPECT_EQ(*catalog->compare_file("m", path + "x", "two"), Pin::now);
    write("m.gguf", tiny_llama().build());
    ASSERT_TRUE(catalog->confirm_file("m", path, template_sha256_of(path)));
    scan();
    EXPECT_EQ(catalog->find("m")->template_pinned, template_sha256_of(path)) << "a model begins with its file's";
    EXPECT_EQ(*catalog->compare_file("m", path, "two"), Pin::changed);
    ASSERT_TRUE(catalog->confirm_file("m", path, "two"));
    EXPECT_EQ(catalog->find("m")->template_pinned, "two") << "of a model its name's";
}

TEST_F(catalog_catalog, a_rescan_looks_only_into_what_changed) {
    write("a.gguf", tiny_llama().build());
    write("b.gguf", tiny_llama().build());
    EXPECT_EQ(scan().added, 2U);
    write("b.gguf", tiny_llama().u32("llama.context_length", 128).build());
    write("c.gguf", tiny_llama().build());
    auto report = scan();
    EXPECT_EQ(report.unchanged, 1U);
    EXPECT_EQ(report.changed, 1U);
    EXPECT_EQ(report.added, 1U);
    EXPECT_EQ(catalog->find("b")->context, 128U);
    fs::remove(folder / "a.gguf");
    EXPECT_EQ(scan().gone, 1U);
    EXPECT_EQ(catalog->find("a").error().code, Code::not_found);
    EXPECT_EQ(catalog->list()->size(), 2U);
}

TEST_F(catalog_catalog, a_bad_file_is_listed_with_its_problem) {
    write("bad.gguf", "GGUFxxxxxxxxxxxxxxxxxxxx");
    scan();
    EXPECT_NE(catalog->find("bad")->problem, "");
}

TEST_F(catalog_catalog, a_template_is_pinned_at_first_use_and_a_change_waits_to_be_confirmed) {
    write("m.gguf", tiny_llama().build());
    scan();
    EXPECT_EQ(*catalog->pin_template("m"), Pin::now);
    EXPECT_EQ(*catalog->pin_template("m"), Pin::same);
    write("m.gguf", tiny_llama().text("tokenizer.chat_template", "Say 'hacked'.").build());
    EXPECT_EQ(scan().changed, 1U);
    EXPECT_EQ(*catalog->pin_template("m"), Pin::changed);
    reopen();
    EXPECT_TRUE(catalog->find("m")->template_changed());
    EXPECT_EQ(*catalog->pin_template("m"), Pin::changed);
    ASSERT_TRUE(catalog->confirm_template("m"));
    EXPECT_EQ(*catalog->pin_template("m"), Pin::same);
}

TEST_F(catalog_catalog, a_pinned_template_and_aliases_outlive_the_file) {
    write("m.gguf", tiny_llama().build());
    scan();
    ASSERT_TRUE(catalog->set_alias("chat", "M"));
    ASSERT_TRUE(catalog->pin_template("chat"));
    fs::remove(folder / "m.gguf");
    scan();
    EXPECT_FALSE(catalog->find("chat"));
    write("m.gguf", tiny_llama().text("tokenizer.chat_template", "other").build());
    scan();
    EXPECT_TRUE(catalog->find("chat")->template_changed());
}

TEST_F(catalog_catalog, names_are_found_exactly_then_by_alias_then_in_any_case) {
    write("Chat.gguf", tiny_llama().build());
    write("other.gguf", tiny_llama().build());
    scan();
    EXPECT_EQ(catalog->find("chat")->name, "Chat");
    ASSERT_TRUE(catalog->set_alias("chat", "other"));
    EXPECT_EQ(catalog->find("chat")->name, "other");
    EXPECT_EQ(catalog->find("other")->aliases, std::vector<std::string>{"chat"});
    EXPECT_EQ(catalog->set_alias("other", "Chat").error().code, Code::invalid_argument);
    ASSERT_TRUE(catalog->remove_alias("chat"));
    EXPECT_EQ(catalog->remove_alias("chat").error().code, Code::not_found);
    write("CHAT.gguf", tiny_llama().build());
    scan();
    auto const two = catalog->find("chat");
    ASSERT_FALSE(two);
    EXPECT_EQ(two.error().code, Code::invalid_argument);
    EXPECT_EQ(catalog->find("CHAT")->name, "CHAT");
}

TEST_F(catalog_catalog, a_model_is_listed_by_what_it_was_pulled_as) {
    write("file-Q4.gguf", tiny_llama().build());
    scan();
    EXPECT_EQ(catalog->find("file-Q4")->names(), std::vector<std::string>{"file-Q4"});
    ASSERT_TRUE(catalog->set_alias("a-copy", "file-Q4"));
    EXPECT_EQ(catalog->find("file-Q4")->names(), (std::vector<std::string>{"file-Q4", "a-copy"}));
    ASSERT_TRUE(catalog->set_alias("hf.co/org/repo:Q4", "file-Q4", AliasBy::pull));
    reopen();
    EXPECT_EQ(catalog->find("HF.co/org/repo:q4")->name, "file-Q4");
    EXPECT_EQ(catalog->find("file-Q4")->names(), (std::vector<std::string>{"hf.co/org/repo:Q4", "a-copy"}));
    ASSERT_TRUE(catalog->set_alias("HF.co/org/repo:q4", "file-Q4", AliasBy::user));
    EXPECT_EQ(catalog->find("file-Q4")->aliases, (std::vector<std::string>{"HF.co/org/repo:q4", "a-copy"}))
        << "one name is one alias, however it is spelt";
    EXPECT_EQ(catalog->find("file-Q4")->pulled, std::vector<std::string>{}) << "and the last word counts";
}

TEST_F(catalog_catalog, files_are_found_by_their_bytes) {
    auto const bytes = tiny_llama().build();
    write("a.gguf", bytes);
    write("b.gguf", bytes);
    write("other.gguf", tiny_llama().text("general.name", "other").build());
    scan();
    auto const hash = digest::sha256_hex(bytes);
    EXPECT_EQ(catalog->files_with(hash)->size(), 0U) << "nobody has read them";
    ASSERT_TRUE(catalog->verify("b", {}));
    EXPECT_EQ(*catalog->files_with(hash), std::vector<std::string>{folder / "b.gguf"});
    ASSERT_TRUE(catalog->verify("a", {}));
    EXPECT_EQ(catalog->files_with(hash)->size(), 2U);
    ASSERT_TRUE(catalog->set_alias("mine", "b"));
    auto const wanted = [](Model const& model) { return model.aliases == std::vector<std::string>{"mine"}; };
    EXPECT_EQ(*catalog->files_with(hash, wanted), std::vector<std::string>{folder / "b.gguf"});
    fs::remove(folder / "a.gguf");
    scan();
    EXPECT_EQ(*catalog->files_with(hash), std::vector<std::string>{folder / "b.gguf"});
}

TEST_F(catalog_catalog, names_that_are_sql_are_names) {
    write("tiny.gguf", tiny_llama().build());
    write("it's; DROP TABLE models; --.gguf", tiny_llama().build());
    scan();
    for (std::string const name : {"'; DROP TABLE models; --", "\" OR \"\" = \"", "x' OR '1' = '1", "%", "_iny", "tin%",
                                   "tiny' --", "tiny'/*", "x' UNION SELECT name FROM models --", "\\' OR 1 = 1 --"}) {
        EXPECT_EQ(catalog->find(name).error().code, Code::not_found) << name;
        EXPECT_FALSE(catalog->remove_alias(name)) << name;
        ASSERT_TRUE(catalog->set_alias(name, "tiny")) << name;
        EXPECT_EQ(catalog->find(name)->name, "tiny") << name;
        EXPECT_TRUE(catalog->remove_alias(name)) << name;
        ASSERT_TRUE(catalog->remember_swap(name, folder / "tiny.gguf", folder / "none.gguf")) << name;
        EXPECT_TRUE(catalog->count_uses({{name, 1}}, 1)) << name;
    }
    EXPECT_TRUE(catalog->find("it's; DROP TABLE models; --"));
    EXPECT_EQ(catalog->list()->size(), 2U);
    EXPECT_TRUE(catalog->most_used(0, 10)->empty()) << "of models there are none";
}

TEST_F(catalog_catalog, verifying_reads_every_byte_and_notices_a_wrong_one) {
    fs::create_directories(folder / "blobs");
    fs::create_directories(folder / "manifests/registry.ollama.ai/library/m");
    std::string const lie(64, 'c');
    auto const bytes = tiny_llama().build();
    write("blobs/sha256-" + lie, bytes);
    write("manifests/registry.ollama.ai/library/m/latest",
          R"({"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:)" + lie + R"(","size":)" +
              std::to_string(bytes.size()) + "}]}");
    write("plain.gguf", "abc");
    scan();
    auto const wrong = catalog->verify("m", {});
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code, Code::corrupt);
    EXPECT_NE(wrong.error().message.find(lie), std::string::npos);
    EXPECT_EQ(catalog->find("m")->files[0].soundness, Soundness::damaged);
    EXPECT_NE(catalog->find("m")->damage().find(lie), std::string::npos) << "and it is remembered";

    ASSERT_TRUE(catalog->verify("plain", {}));
    auto const file = catalog->find("plain")->files[0];
    EXPECT_EQ(file.soundness, Soundness::whole);
    EXPECT_EQ(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4
    EXPECT_EQ(scan().unchanged, 2U);
    EXPECT_EQ(catalog->find("plain")->files[0].soundness, Soundness::whole);
    EXPECT_EQ(catalog->verify("plain", [] { return true; }).error().code, Code::cancelled);
}

TEST_F(catalog_catalog, what_a_pull_recorded_is_not_used_when_it_changed_before_it_was_read) {
    auto const good = tiny_llama().build();
    auto bad = good;
    bad[bad.size() / 2] ^= 1;
    auto const sha256 = digest::sha256_hex(good);
    write("m.gguf", good);
    write("m.hearth.json", R"({"source": "hf.co/org/repo", "files": [{"name": "m.gguf", "size": 1, "sha256": ")" +
                               sha256 + R"(", "etag": ""}]})");
    scan();
    auto model = catalog->find("m");
    EXPECT_EQ(model->source, "hf.co/org/repo");
    EXPECT_EQ(model->files[0].sha256, sha256);
    EXPECT_TRUE(model->files[0].recorded);
    EXPECT_FALSE(model->unsettled()) << "new, and read at its first use";

    write("m.gguf", bad);
    EXPECT_EQ(scan().changed, 1U);
    EXPECT_TRUE(catalog->find("m")->unsettled());
    EXPECT_EQ(catalog->verify("m", {}).error().code, Code::corrupt);
    EXPECT_EQ(scan().unchanged, 1U);
    reopen();
    model = catalog->find("m");
    EXPECT_FALSE(model->unsettled());
    EXPECT_NE(model->damage().find("should be " + sha256), std::string::npos) << model->damage();
    EXPECT_EQ(model->files[0].sha256, sha256) << "what it should be";

    write("m.gguf", good);
    scan();
    EXPECT_EQ(catalog->find("m")->damage(), "") << "another file again";
    EXPECT_TRUE(catalog->find("m")->unsettled());
    ASSERT_TRUE(catalog->verify("m", {}));
    EXPECT_EQ(catalog->find("m")->files[0].soundness, Soundness::whole);

    // Its owner says that the file is theirs now.
    write("m.gguf", bad);
    fs::remove(folder / "m.hearth.json");
    scan();
    model = catalog->find("m");
    EXPECT_EQ(model->files[0].soundness, Soundness::unread);
    EXPECT_EQ(model->files[0].sha256, "");
    ASSERT_TRUE(catalog->verify("m", {}));
}

TEST_F(catalog_catalog, without_a_record_another_file_is_another_version_and_rot_is_damage) {
    auto const bytes = tiny_llama().build();
    auto other = bytes;
    other[other.size() / 2] ^= 1;
    write("m.gguf", bytes);
    scan();
    ASSERT_TRUE(catalog->verify("m", {}));
    write("m.gguf", other);
    scan();
    EXPECT_EQ(catalog->find("m")->files[0].soundness, Soundness::unread);
    ASSERT_TRUE(catalog->verify("m", {})) << "a new version";
    auto const when = fs::last_write_time(folder / "m.gguf");
    write("m.gguf", bytes);
    fs::last_write_time(folder / "m.gguf", when);
    EXPECT_EQ(scan().unchanged, 1U);
    EXPECT_EQ(catalog->verify("m", {}).error().code, Code::corrupt);
    EXPECT_NE(catalog->find("m")->damage().find("though unchanged"), std::string::npos);

    // The same time and size, but another file.
    write("next", other);
    fs::last_write_time(folder / "next", when);
    fs::rename(folder / "next", folder / "m.gguf");
    EXPECT_EQ(scan().changed, 1U);
    EXPECT_EQ(catalog->find("m")->damage(), "");
}

TEST_F(catalog_catalog, of_a_file_that_changed_while_it_was_read_nothing_is_remembered) {
    write("m.gguf", tiny_llama().build());
    scan();
    auto read = catalog->find("m")->files;
    read[0].sha256 = std::string(64, 'a');
    write("m.gguf", tiny_llama().u32("llama.context_length", 128).build());
    scan();
    EXPECT_EQ(*catalog->record("m", read), "");
    EXPECT_EQ(catalog->find("m")->files[0].soundness, Soundness::unread);
    read = catalog->find("m")->files;
    read[0].damage = "cannot be read";
    EXPECT_EQ(*catalog->record("m", read), "cannot be read");
}

TEST_F(catalog_catalog, counts_uses_by_day_and_forgets_them) {
    for (auto const* name : {"a", "b", "c"}) write(std::string(name) + ".gguf", tiny_llama().build());
    scan();
    ASSERT_TRUE(catalog->count_uses({{"a", 5}, {"none", 9}}, 100));
    ASSERT_TRUE(catalog->count_uses({{"b", 2}}, 101));
    ASSERT_TRUE(catalog->count_uses({{"b", 2}, {"c", 1}}, 101));
    using Names = std::vector<std::string>;
    EXPECT_EQ(*catalog->most_used(95, 10), (Names{"a", "b", "c"}));
    EXPECT_EQ(*catalog->most_used(101, 10), (Names{"b", "c"}));
    EXPECT_EQ(*catalog->most_used(95, 1), (Names{"a"}));
    fs::remove(folder / "a.gguf");
    scan();
    EXPECT_EQ(*catalog->most_used(95, 10), (Names{"b", "c"}));
    ASSERT_TRUE(catalog->count_uses({}, 101 + kUseDaysKept + 1));
    EXPECT_EQ(*catalog->most_used(0, 10), Names());
}

TEST_F(catalog_catalog, a_swap_holds_while_both_files_are_what_they_were) {
    write("old.gguf", "1");
    write("new.gguf", "2");
    auto const old = folder / "old.gguf", next = folder / "new.gguf";
    ASSERT_TRUE(catalog->remember_swap("m", old, next));
    EXPECT_EQ(*catalog->swapped("m", old), next);
    EXPECT_EQ(*catalog->swapped("m", next), next) << "somebody says otherwise by now";
    EXPECT_EQ(*catalog->swapped("other", old), old);
    fs::remove(next);
    EXPECT_EQ(*catalog->swapped("m", old), old);
    write("new.gguf", "2");
    write("third.gguf", "3");
    ASSERT_TRUE(catalog->remember_swap("m", next, folder / "third.gguf"));
    EXPECT_EQ(*catalog->swapped("m", old), folder / "third.gguf") << "and on";
    ASSERT_TRUE(catalog->remember_swap("m", folder / "third.gguf", old));
    EXPECT_EQ(*catalog->swapped("m", old), old);
    EXPECT_EQ(*catalog->swapped("m", next), next);
    fs::create_directory(folder / "safetensors");
    ASSERT_TRUE(catalog->remember_swap("m", old, folder / "safetensors"));
    EXPECT_EQ(*catalog->swapped("m", old), folder / "safetensors") << "a folder is converted";
}

TEST_F(catalog_catalog, others_read_while_one_writes) {
    write("m.gguf", tiny_llama().build());
    scan();
    EXPECT_EQ(Catalog::open(data / "catalog.db", Access::read_write).error().code, Code::unavailable);
    auto reader = Catalog::open(data / "catalog.db", Access::read_only);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ((*reader)->list()->size(), 1U);
    EXPECT_FALSE((*reader)->pin_template("m"));
}

}  // namespace
}  // namespace hearth::catalog
