#include "catalog/layouts.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "catalog/locate.h"
#include "testing/temporary_folder.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;

std::string const kHex(64, 'a');
std::string const kOther(64, 'b');

class catalog_layouts : public ::testing::Test {
protected:
    void write(std::string const& name, std::string const& text) const {
        auto const path = fs::path(folder / name);
        fs::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << text;
    }
    void link(std::string const& target, std::string const& name) const {
        auto const path = fs::path(folder / name);
        fs::create_directories(path.parent_path());
        fs::create_symlink(target, path);
    }
    static std::string layer(std::string const& kind, std::string const& hex, std::size_t bytes) {
        return R"({"mediaType":"application/vnd.ollama.image.)" + kind + R"(","digest":"sha256:)" + hex +
               R"(","size":)" + std::to_string(bytes) + "}";
    }
    void manifest(std::string const& name, std::string const& layers) const {
        write("manifests/" + name, R"({"schemaVersion":2,"layers":[)" + layers + "]}");
    }
    Findings find() { return find_models({folder.path()}); }
    Found one() {
        auto found = find();
        EXPECT_EQ(found.models.size(), 1U);
        for (auto const& refused : found.refused) ADD_FAILURE() << refused.path << ": " << refused.why;
        return found.models.empty() ? Found{} : found.models[0];
    }
    void refused(std::string const& why) {
        auto const found = find();
        EXPECT_TRUE(found.models.empty()) << found.models[0].name;
        bool const said = std::ranges::any_of(
            found.refused, [&](Refused const& one) { return one.why.find(why) != std::string::npos; });
        EXPECT_TRUE(said) << (found.refused.empty() ? "nothing is refused" : found.refused[0].why);
    }

    hearth::testing::TemporaryFolder folder;
};

TEST_F(catalog_layouts, plain_files_have_their_own_names) {
    write("Tiny-Q4.GGUF", "12345");
    write("notes.txt", "x");
    auto const found = one();
    EXPECT_EQ(found.name, "Tiny-Q4");
    EXPECT_EQ(found.layout, Layout::folder);
    ASSERT_EQ(found.files.size(), 1U);
    EXPECT_EQ(found.files[0].bytes, 5U);
    EXPECT_GT(found.files[0].modified_ns, 0);
}

TEST_F(catalog_layouts, splits_are_one_model_and_all_must_be_there) {
    write("big-00001-of-00002.gguf", "1");
    refused("No such file");
    write("big-00002-of-00002.gguf", "22");
    auto const found = one();
    EXPECT_EQ(found.name, "big");
    ASSERT_EQ(found.files.size(), 2U);
    EXPECT_EQ(found.files[1].bytes, 2U);
}

TEST_F(catalog_layouts, a_link_that_leaves_the_folders_is_refused_and_one_inside_is_not) {
    hearth::testing::TemporaryFolder const elsewhere;
    std::ofstream(elsewhere / "secret.gguf") << "x";
    link(elsewhere / "secret.gguf", "a.gguf");
    refused("outside the folders");
    EXPECT_EQ(find_models({folder.path(), elsewhere.path()}).models.size(), 2U);
    fs::remove(folder / "a.gguf");
    link("/dev/zero", "b.gguf");
    refused("outside the folders");
    fs::remove(folder / "b.gguf");
    write("sub/real.bin", "x");
    link("sub/real.bin", "c.gguf");
    EXPECT_EQ(one().name, "c");
}

TEST_F(catalog_layouts, ollama_manifests_name_blobs) {
    write("blobs/sha256-" + kHex, "model");
    write("blobs/sha256-" + kOther, "Be brief.\n");
    manifest("registry.ollama.ai/library/tiny/latest", layer("model", kHex, 5) + "," + layer("system", kOther, 10));
    auto const found = one();
    EXPECT_EQ(found.name, "tiny:latest");
    EXPECT_EQ(found.source, "registry.ollama.ai/library/tiny:latest");
    EXPECT_EQ(found.system, "Be brief.");
    ASSERT_EQ(found.files.size(), 1U);
    EXPECT_EQ(found.files[0].sha256, kHex);
    EXPECT_TRUE(found.files[0].path.ends_with("/blobs/sha256-" + kHex));
    manifest("127.0.0.1:5000/me/tiny/q4", layer("model", kHex, 5));
    manifest("registry.ollama.ai/you/tiny/q4", layer("model", kHex, 5));
    auto const all = find();
    ASSERT_EQ(all.models.size(), 3U);
    EXPECT_EQ(all.models[0].name, "127.0.0.1:5000/me/tiny:q4");
    EXPECT_EQ(all.models[2].name, "you/tiny:q4");
}

TEST_F(catalog_layouts, a_digest_that_is_a_path_is_refused) {
    write("secret", "model");
    manifest("registry.ollama.ai/library/tiny/latest", layer("model", "../../secret", 5));
    refused("no sha256:HEX");
}

TEST_F(catalog_layouts, a_blob_that_is_a_link_out_is_refused) {
    fs::create_directories(folder / "blobs");
    fs::create_symlink("/etc/hostname", folder / ("blobs/sha256-" + kHex));
    manifest("registry.ollama.ai/library/tiny/latest", layer("model", kHex, 5));
    refused("outside the folders");
}

TEST_F(catalog_layouts, a_manifest_that_lies_or_is_none_is_refused) {
    write("blobs/sha256-" + kHex, "model");
    auto const name = "registry.ollama.ai/library/tiny/latest";
    manifest(name, layer("model", kHex, 6));
    refused("has 5 bytes, the manifest says otherwise");
    manifest(name, layer("model", kOther, 6));
    refused("No such file");
    write(std::string("manifests/") + name, "{");
    refused("is no manifest");
    write(std::string("manifests/") + name, std::string(kManifestMax + 1, '['));
    refused("at most 1048576 are read");
    write(std::string("manifests/") + name, std::string(100'000, '['));
    refused("is no manifest");
    std::string many = layer("model", kHex, 5);
    for (std::size_t i = 0; i < kLayersMax; ++i) many += "," + layer("x", kHex, 5);
    manifest(name, many);
    refused("has 65 layers, at most 64");
}

TEST_F(catalog_layouts, a_manifest_in_a_place_with_a_hostile_name_is_refused) {
    write("blobs/sha256-" + kHex, "model");
    manifest("registry.ollama.ai/library/tiny/-rf", layer("model", kHex, 5));
    refused("HOST/NAMESPACE/MODEL/TAG");
    fs::remove_all(folder / "manifests");
    manifest("registry.ollama.ai/library/t\033[2Jy/latest", layer("model", kHex, 5));
    refused("HOST/NAMESPACE/MODEL/TAG");
}

TEST_F(catalog_layouts, a_file_name_that_would_drive_a_terminal_is_refused) {
    write("a\033[2J.gguf", "x");
    refused("control characters");
}

TEST_F(catalog_layouts, hugging_faces_cache_is_read_through_its_links) {
    auto const repository = "hub/models--org--tiny-GGUF/";
    write(repository + ("blobs/" + kHex), "12345");
    write(repository + std::string("refs/main"), "0123abc");
    link("../../blobs/" + kHex, repository + std::string("snapshots/0123abc/tiny-Q8_0.gguf"));
    link("../../blobs/" + kHex, repository + std::string("snapshots/older/tiny-old.gguf"));
    auto const found = one();
    EXPECT_EQ(found.name, "hf.co/org/tiny-GGUF:tiny-Q8_0");
    EXPECT_EQ(found.layout, Layout::hugging_face);
    EXPECT_EQ(found.source, "hf.co/org/tiny-GGUF@0123abc");
    EXPECT_EQ(found.files[0].sha256, kHex);
    EXPECT_TRUE(found.files[0].path.ends_with("snapshots/0123abc/tiny-Q8_0.gguf"));
    write(repository + std::string("refs/main"), "../../..");
    EXPECT_TRUE(find().models.empty());
}

TEST_F(catalog_layouts, of_equal_names_the_first_folders_counts) {
    hearth::testing::TemporaryFolder const second;
    write("same.gguf", "1");
    std::ofstream(second / "same.gguf") << "22";
    EXPECT_EQ(find_models({folder.path(), second.path()}).models.at(0).files[0].bytes, 1U);
    EXPECT_EQ(find_models({second.path(), folder.path()}).models.at(0).files[0].bytes, 2U);
    EXPECT_TRUE(find_models({second / "nowhere"}).models.empty());
}

TEST_F(catalog_layouts, a_name_is_located_in_every_layout) {
    write("blobs/sha256-" + kHex, "model");
    manifest("registry.ollama.ai/library/tiny/latest", layer("model", kHex, 5));
    manifest("registry.ollama.ai/library/Tiny/q4", layer("model", kHex, 5));
    manifest("registry.ollama.ai/library/tiny/Q4", layer("model", kHex, 5));
    write("plain.gguf", "x");
    auto const in = std::vector{folder.path()};
    EXPECT_EQ(locate("plain", in)->id, "plain");
    EXPECT_EQ(locate("TINY", in)->id, "tiny:latest");
    EXPECT_TRUE(locate("tiny:latest", in)->path.ends_with(kHex));
    EXPECT_EQ(locate("Tiny:q4", in)->id, "Tiny:q4");
    EXPECT_EQ(locate("tiny:q4", in).error().code, Code::invalid_argument);
    auto const missing = locate("other", in);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Code::not_found);
    EXPECT_NE(missing.error().message.find("plain"), std::string::npos) << missing.error().message;
    EXPECT_NE(missing.error().message.find("tiny:latest"), std::string::npos) << missing.error().message;
}

TEST_F(catalog_layouts, lm_studios_files_are_named_by_publisher_and_repository) {
    write("org/tiny-GGUF/tiny-Q8_0.gguf", "12345");
    write("org/tiny-GGUF/mmproj-tiny.gguf", "1");
    write("org/a b/odd.gguf", "1");
    write("org/tiny-GGUF/deeper/too/hidden.gguf", "1");
    auto const found = one();
    EXPECT_EQ(found.name, "org/tiny-GGUF:tiny-Q8_0");
    EXPECT_EQ(found.layout, Layout::lm_studio);
    EXPECT_EQ(found.source, "hf.co/org/tiny-GGUF");
    EXPECT_FALSE(found.files[0].recorded);
}

TEST_F(catalog_layouts, folders_in_the_folder_are_looked_into) {
    write("mine/Tiny-Q4.gguf", "1");
    write(".hidden/a.gguf", "1");
    write("manifests/a.gguf", "1");
    write("org/repo/q4/part-00001-of-00002.gguf", "1");
    write("org/repo/q4/part-00002-of-00002.gguf", "1");
    fs::create_directories(folder / "elsewhere");
    fs::create_directory_symlink(folder / "mine", folder / "linked");
    auto const found = find();
    ASSERT_EQ(found.models.size(), 2U);
    EXPECT_EQ(found.models[0].name, "mine/Tiny-Q4");
    EXPECT_EQ(found.models[0].layout, Layout::folder);
    EXPECT_EQ(found.models[1].name, "org/repo:part");
    EXPECT_EQ(found.models[1].files.size(), 2U);
    EXPECT_EQ(locate("mine/tiny-q4", {folder.path()})->id, "mine/Tiny-Q4");
}

TEST_F(catalog_layouts, a_folder_of_safetensors_is_a_model) {
    for (auto const* name : {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json", "README.md",
                             "consolidated.safetensors", "weights.bin", "nothing/here.json"})
        write(std::string("MiniLM/") + name, "x");
    write(
        "MiniLM.hearth.json",
        R"({"source": "hf.co/org/MiniLM", "files": [{"name": "MiniLM/1_Pooling/config.json", "size": 1, "sha256": ")" +
            kHex + R"("}]})");
    write("no-weights/config.json", "x");
    write("no-config/model.safetensors", "x");
    auto const found = one();
    EXPECT_EQ(found.name, "MiniLM");
    EXPECT_EQ(found.layout, Layout::folder);
    EXPECT_EQ(found.source, "hf.co/org/MiniLM");
    ASSERT_EQ(found.files.size(), 5U);
    EXPECT_TRUE(is_folder(found.files));
    EXPECT_EQ(fs::path(served_from(found.files)), fs::canonical(folder / "MiniLM"));
    auto const pooling = std::ranges::find_if(
        found.files, [](ModelFile const& file) { return file.path.ends_with("MiniLM/1_Pooling/config.json"); });
    ASSERT_NE(pooling, found.files.end());
    EXPECT_TRUE(pooling->recorded);
    auto const located = locate("minilm", {folder.path()});
    ASSERT_TRUE(located) << located.error().message;
    EXPECT_EQ(located->id, "MiniLM");
    EXPECT_EQ(fs::path(located->path), fs::canonical(folder / "MiniLM"));
}

TEST_F(catalog_layouts, a_folder_of_safetensors_with_a_link_out_is_refused) {
    hearth::testing::TemporaryFolder const elsewhere;
    std::ofstream(elsewhere / "model.safetensors") << "x";
    write("m/config.json", "x");
    link(elsewhere / "model.safetensors", "m/model.safetensors");
    refused("outside the folders");
}

TEST_F(catalog_layouts, a_cache_has_a_model_for_each_revision_that_a_ref_names) {
    auto const repository = std::string("models--org--tiny/");
    write(repository + "blobs/" + kHex, "12345");
    write(repository + "refs/main", "aaa");
    write(repository + "refs/v1", "bbb");
    write(repository + "refs/same", "aaa");
    write(repository + "refs/evil", "../../..");
    for (auto const* name : {"snapshots/aaa/config.json", "snapshots/aaa/model.safetensors", "snapshots/bbb/old.gguf"})
        link("../../blobs/" + kHex, repository + name);
    link("../../../blobs/" + kHex, repository + "snapshots/aaa/Q4_K_M/tiny-00001-of-00001.gguf");
    link("../../blobs/" + kHex, repository + "snapshots/ccc/unnamed.gguf");
    std::vector<std::string> names;
    for (auto const& model : find().models) names.push_back(model.name);
    EXPECT_EQ(names, (std::vector<std::string>{"hf.co/org/tiny", "hf.co/org/tiny:tiny", "hf.co/org/tiny@v1:old"}));
    auto const whole = find().models.at(0);
    EXPECT_TRUE(is_folder(whole.files));
    EXPECT_EQ(whole.source, "hf.co/org/tiny@aaa");
    EXPECT_EQ(whole.files.at(1).sha256, kHex);
}

TEST_F(catalog_layouts, an_adapter_of_ollamas_lies_on_top_and_a_projector_is_refused_by_name) {
    write("blobs/sha256-" + kHex, "model");
    write("blobs/sha256-" + kOther, "lora");
    auto const name = "registry.ollama.ai/library/tiny/latest";
    manifest(name, layer("adapter", kOther, 4) + "," + layer("model", kHex, 5));
    auto const found = one();
    ASSERT_EQ(found.files.size(), 1U);
    EXPECT_TRUE(found.files[0].path.ends_with(kHex));
    ASSERT_EQ(found.adapters.size(), 1U);
    EXPECT_TRUE(found.adapters[0].ends_with(kOther)) << found.adapters[0];
    EXPECT_EQ(found.problem, "");
    manifest(name, layer("adapter", kOther, 4));
    EXPECT_TRUE(find().models.empty()) << "nothing to lie on";
    manifest(name, layer("model", kHex, 5) + "," + layer("projector", kOther, 4));
    EXPECT_NE(one().problem.find("projector"), std::string::npos);
    auto const located = locate("tiny", {folder.path()});
    ASSERT_FALSE(located);
    EXPECT_EQ(located.error().code, Code::unsupported);
    EXPECT_NE(located.error().message.find("projector"), std::string::npos) << located.error().message;
}

TEST_F(catalog_layouts, what_a_pull_noted_is_recorded) {
    write("m.gguf", "12345");
    write("other.gguf", "12345");
    write("m.hearth.json",
          R"({"source": "hf.co/org/repo", "files": [{"name": "m.gguf", "size": 5, "sha256": ")" + kHex + R"("}]})");
    write("other.hearth.json", R"({"source": "create", "system": "x"})");
    auto const found = find();
    ASSERT_EQ(found.models.size(), 2U);
    EXPECT_EQ(found.models[0].source, "hf.co/org/repo");
    EXPECT_EQ(found.models[0].files[0].sha256, kHex);
    EXPECT_TRUE(found.models[0].files[0].recorded);
    EXPECT_EQ(found.models[1].source, "");
    EXPECT_FALSE(found.models[1].files[0].recorded);
}

}  // namespace
}  // namespace hearth::catalog
