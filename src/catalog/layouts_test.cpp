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
    write("deeper/hidden.gguf", "x");
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
    write("org/tiny-GGUF/deeper/hidden.gguf", "1");
    auto const found = one();
    EXPECT_EQ(found.name, "org/tiny-GGUF:tiny-Q8_0");
    EXPECT_EQ(found.layout, Layout::lm_studio);
    EXPECT_EQ(found.source, "hf.co/org/tiny-GGUF");
    EXPECT_FALSE(found.files[0].recorded);
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
