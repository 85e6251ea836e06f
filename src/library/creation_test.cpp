#include "library/creation.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "library/testing/elsewhere.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using models::testing::tiny_llama;

class WeightsTest : public ::testing::Test {
protected:
    std::string upload(std::string const& bytes) {
        auto const hex = digest::sha256_hex(bytes);
        auto const begun = blobs.begin(hex, bytes.size());
        EXPECT_TRUE(begun);
        if (begun && *begun) {
            EXPECT_TRUE((*begun)->append(bytes));
            EXPECT_TRUE((*begun)->finish());
        }
        return "sha256:" + hex;
    }
    Result<Weights> make(WeightsOrder order) {
        order.models_folder = models;
        auto const maker = [this](MakeOrder const& wanted, auto const& watch) -> Status {
            made.push_back(wanted);
            if (fs::is_directory(wanted.source)) found = entries(wanted.source);
            if (!watch({false, 1, 2}) || !watch({true, 1, 2})) return Error(Code::cancelled, "stopped");
            std::ofstream(wanted.output, std::ios::binary) << tiny_llama().build();
            return ok();
        };
        return make_weights(
            order, blobs, maker, [this](CreateStep step) { said.push_back(std::move(step)); },
            [this] { return stopped; });
    }
    [[nodiscard]] std::vector<std::string> words() const {
        std::vector<std::string> out;
        for (auto const& step : said) out.push_back(step.text);
        return out;
    }
    static std::vector<std::string> entries(std::string const& path) {
        std::vector<std::string> out;
        if (!fs::exists(path)) return out;
        for (auto const& entry : fs::directory_iterator(path)) out.push_back(entry.path().filename());
        return out;
    }

    hearth::testing::TemporaryFolder folder;
    BlobStore blobs{{.folder = folder / "blobs", .bytes_spare = 0}};
    std::string models = folder / "models";
    std::string const model = tiny_llama().build();
    std::vector<MakeOrder> made;
    std::vector<std::string> found;
    std::vector<CreateStep> said;
    bool stopped = false;
};

TEST_F(WeightsTest, OneGgufFileIsTakenAsItIs) {
    auto const digest = upload(model);
    for (auto const* name : {"x.gguf", "without an ending"}) {
        said.clear();
        auto const weights = make({"", {{name, digest}}, "", ""});
        ASSERT_TRUE(weights) << weights.error().message;
        EXPECT_EQ(fs::file_size(weights->files.path), model.size());
        EXPECT_EQ(words(), (std::vector<std::string>{"parsing GGUF", "using existing layer " + digest}));
    }
    EXPECT_TRUE(made.empty());
    EXPECT_EQ(entries(folder / "blobs").size(), 1U) << "what was staged is gone";
}

TEST_F(WeightsTest, WhatAModelHereHasNeedNotBeUploaded) {
    std::ofstream(folder / "there.gguf", std::ios::binary) << model;
    auto const hex = digest::sha256_hex(model);
    WeightsOrder order{"", {{"x.gguf", "sha256:" + hex}}, "", ""};
    EXPECT_EQ(make(order).error().code, Code::not_found);
    order.known[hex] = folder / "there.gguf";
    auto const weights = make(order);
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_TRUE(fs::equivalent(weights->files.path, folder / "there.gguf"));
    EXPECT_EQ(weights->files.sha256s, std::vector<std::string>{hex}) << "which is recorded of what is made";
}

TEST_F(WeightsTest, OfALinkToAModelHereTheFileIsTaken) {
    fs::create_directory(folder / "far");
    std::ofstream(folder / "far/there.gguf", std::ios::binary) << model;
    fs::create_symlink("far/there.gguf", folder / "link.gguf");
    auto const hex = digest::sha256_hex(model);
    WeightsOrder order{"", {{"x.gguf", "sha256:" + hex}}, "", ""};
    order.known[hex] = folder / "link.gguf";
    auto const weights = make(order);
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_FALSE(fs::is_symlink(weights->files.path));
    EXPECT_TRUE(fs::equivalent(weights->files.path, folder / "far/there.gguf"));
}

TEST_F(WeightsTest, AFolderIsConverted) {
    auto const weights =
        make({"", {{"model.safetensors", upload("weights")}, {"config.json", upload("{}")}}, "q8_0", ""});
    ASSERT_TRUE(weights) << weights.error().message;
    ASSERT_EQ(made.size(), 1U);
    EXPECT_EQ(made[0].form, "q8_0");
    std::ranges::sort(found);
    EXPECT_EQ(found, (std::vector<std::string>{"config.json", "model.safetensors"}));
    EXPECT_TRUE(weights->files.path.starts_with(folder / "models"));
    EXPECT_EQ(words(), (std::vector<std::string>{"converting model", "quantizing model to q8_0"}));
    EXPECT_EQ(said.back().total, 2U);
    EXPECT_EQ(weights->files.sha256s, std::vector<std::string>{digest::sha256_hex(tiny_llama().build())});
}

TEST_F(WeightsTest, APartsConfigHasAFolderOfItsOwn) {
    auto const config = upload("{}");
    auto const weights =
        make({"",
              {{"model.safetensors", upload("weights")}, {"config.json", config}, {"1_Pooling/config.json", config}},
              "",
              ""});
    ASSERT_TRUE(weights) << weights.error().message;
    std::ranges::sort(found);
    EXPECT_EQ(found, (std::vector<std::string>{"1_Pooling", "config.json", "model.safetensors"}));
}

TEST_F(WeightsTest, AModelHereIsQuantised) {
    std::ofstream(folder / "base.gguf", std::ios::binary) << model;
    auto const weights = make({folder / "base.gguf", {}, "q4_K_M", ""});
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_EQ(made.at(0).source, folder / "base.gguf");
    EXPECT_TRUE(words().front().starts_with("quantizing ")) << words().front();
}

TEST_F(WeightsTest, WhatIsQuantisedAlreadyIsNotQuantisedAgain) {
    std::ofstream(folder / "base.gguf", std::ios::binary) << tiny_llama().u32("general.file_type", 2).build();
    auto const refused = make({folder / "base.gguf", {}, "q4_K_M", ""});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("only supported for F16"), std::string::npos) << refused.error().message;
    EXPECT_TRUE(made.empty());
}

TEST_F(WeightsTest, ForAnotherFileSystemTheyAreCopiedThereBeforeTheyAreWanted) {
    testing::Elsewhere const elsewhere(folder.path());
    if (!elsewhere.there()) GTEST_SKIP() << "there is one file system here";
    models = elsewhere / "models";
    {
        auto const weights = make({"", {{"x.gguf", upload(model)}}, "", ""});
        ASSERT_TRUE(weights) << weights.error().message;
        EXPECT_TRUE(weights->files.path.starts_with(models)) << weights->files.path;
        EXPECT_EQ(fs::path(weights->files.path).filename(), "x.gguf");
        std::ifstream file(weights->files.path, std::ios::binary);
        EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), model);
        struct ::stat copied{};
        ASSERT_EQ(::stat(weights->files.path.c_str(), &copied), 0);
        EXPECT_EQ(copied.st_mode & 0777U, 0644U);
    }
    EXPECT_TRUE(entries(models).empty());
    stopped = true;
    auto const refused = make({"", {{"x.gguf", upload(model)}}, "", ""});
    EXPECT_EQ(refused.error().code, Code::cancelled);
    EXPECT_TRUE(entries(models).empty());
    EXPECT_EQ(entries(folder / "blobs").size(), 1U);
}

TEST_F(WeightsTest, AFolderHereIsConverted) {
    fs::create_directory(folder / "lm");
    WeightsOrder order{folder / "lm", {}, "", ""};
    order.folder = true;
    auto const weights = make(order);
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_EQ(made.at(0).source, folder / "lm");
    EXPECT_EQ(words().front(), "converting model");
}

class AdaptersTest : public WeightsTest {
protected:
    // With adapter_config.json and weights the maker writes one of ours.
    Result<Weights> add(std::vector<std::pair<std::string, std::string>> adapters, std::string const& own = "") {
        WeightsOrder order{folder / "base.gguf", {}, "", folder / "models"};
        order.adapters = std::move(adapters);
        auto const maker = [this](MakeOrder const& wanted, auto const& watch) -> Status {
            made.push_back(wanted);
            found = entries(wanted.source);
            if (!watch({false, 1, 2})) return Error(Code::cancelled, "stopped");
            if (!failure.empty()) return Error(Code::unsupported, wanted.source + "/adapter_config.json: " + failure);
            std::ofstream(wanted.output, std::ios::binary) << adapter;
            return ok();
        };
        Weights weights;
        weights.files.path = own;
        HEARTH_CHECK(add_adapters(weights, order, blobs, maker, [this] { return stopped; }));
        return weights;
    }

    std::string const adapter = models::testing::tiny_adapter().build();
    std::string failure;
};

TEST_F(AdaptersTest, WhatPeftSavesIsConvertedForTheModel) {
    auto const weights = add({{"adapter_config.json", upload("{}")},
                              {"adapter_model.safetensors", upload("weights")},
                              {"plain.gguf", upload(adapter)}});
    ASSERT_TRUE(weights) << weights.error().message;
    ASSERT_EQ(weights->adapters.size(), 2U);
    ASSERT_EQ(made.size(), 1U);
    EXPECT_EQ(made[0].base, folder / "base.gguf");
    EXPECT_EQ(made[0].output, weights->adapters[0]);
    std::ranges::sort(found);
    EXPECT_EQ(found, (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
    EXPECT_EQ(fs::file_size(weights->adapters[1]), adapter.size());
    ASSERT_TRUE(add({{"adapter_config.json", upload("{}")}}, folder / "made.gguf"));
    EXPECT_EQ(made.back().base, folder / "made.gguf") << "for the weights it gets";
}

TEST_F(AdaptersTest, SeveralLieInFoldersOfTheirOwn) {
    auto const config = upload("{}"), matrices = upload("weights");
    auto const weights = add({{"1/adapter_config.json", config},
                              {"1/adapter_model.safetensors", matrices},
                              {"2/adapter_config.json", config},
                              {"2/adapter_model.safetensors", matrices}});
    ASSERT_TRUE(weights) << weights.error().message;
    EXPECT_EQ(weights->adapters.size(), 2U);
    EXPECT_EQ(made.size(), 2U);
}

TEST_F(AdaptersTest, WhatIsNoneIsToldWithoutFolders) {
    failure = "DoRA";
    auto const refused = add({{"adapter_config.json", upload("{}")}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().param, "adapters");
    EXPECT_NE(refused.error().message.find("DoRA"), std::string::npos);
    EXPECT_EQ(refused.error().message.find(folder.path()), std::string::npos) << refused.error().message;
    EXPECT_EQ(add({{"../adapter_config.json", upload("{}")}}).error().code, Code::invalid_argument);
    EXPECT_EQ(add({{"a.gguf", upload("junk")}}).error().param, "adapters");
    std::vector<std::pair<std::string, std::string>> many;
    for (std::size_t i = 0; i <= modelfile::kAdaptersMax; ++i) many.emplace_back(std::to_string(i) + ".gguf", "");
    EXPECT_NE(add(many).error().message.find("the limit is 16"), std::string::npos);
}

TEST_F(WeightsTest, StoppingLeavesNothing) {
    stopped = true;
    auto const refused = make({"", {{"model.safetensors", upload("weights")}, {"config.json", upload("{}")}}, "", ""});
    EXPECT_EQ(refused.error().code, Code::cancelled);
    EXPECT_TRUE(entries(folder / "models").empty());
    EXPECT_EQ(entries(folder / "blobs").size(), 2U);
}

TEST_F(WeightsTest, FilesThatAreNoModelAreRefused) {
    auto const digest = upload(model), junk = upload("junk");
    auto const refused = [&](std::vector<std::pair<std::string, std::string>> files) {
        auto const weights = make({"", std::move(files), "", ""});
        EXPECT_FALSE(weights);
        return weights ? Error() : weights.error();
    };
    EXPECT_EQ(refused({{"../x.gguf", digest}}).param, "files");
    EXPECT_EQ(refused({{"a/b/c.gguf", digest}}).param, "files");
    EXPECT_EQ(refused({{"a/../x.gguf", digest}}).param, "files");
    EXPECT_EQ(refused({{"a/..", digest}}).param, "files");
    EXPECT_EQ(refused({{"/x.gguf", digest}}).param, "files");
    EXPECT_EQ(refused({{".hidden.gguf", digest}}).param, "files");
    EXPECT_EQ(refused({{"x.gguf", "sha256:../../etc/passwd"}}).code, Code::invalid_argument);
    EXPECT_EQ(refused({{"x.gguf", "sha256:" + std::string(64, '0')}}).code, Code::not_found) << "never uploaded";
    EXPECT_EQ(refused({{"x.gguf", junk}}).code, Code::corrupt);
    EXPECT_EQ(refused({{"x.gguf", digest}, {"y.gguf", digest}}).code, Code::invalid_argument) << "two models";
    EXPECT_EQ(refused({{"x-00001-of-00003.gguf", digest}, {"x-00002-of-00003.gguf", digest}}).code,
              Code::invalid_argument)
        << "one is missing";
    EXPECT_EQ(refused({{"x.safetensors", junk}, {"x.safetensors", junk}}).code, Code::invalid_argument) << "one name";
    auto const both = refused({{"x.safetensors", junk}, {"a/config.json", junk}, {"a", junk}});
    EXPECT_EQ(both, Error(Code::invalid_argument, "'a' is a file, and 'a/config.json' needs it as a folder", "files"));
    EXPECT_EQ(refused({{"readme.txt", junk}, {"notes.txt", junk}}).code, Code::invalid_argument);
    EXPECT_EQ(refused(std::vector(kCreateFilesMax + 1, std::pair(std::string("x"), digest))).code,
              Code::invalid_argument);
    EXPECT_EQ(entries(folder / "blobs").size(), 2U) << "and nothing is left";
}

TEST(Creation, TellsOfALongStepNoMoreThanIsTaken) {
    net::Loop loop;
    auto const creation = std::make_shared<Creation>(loop);
    for (std::uint64_t i = 1; i < 1000; ++i) Creation::report(creation, {"quantizing", i, 1000});
    Creation::report(creation, {"quantizing", 1000, 1000});
    Creation::report(creation, {"writing manifest"});
    loop.run();
    auto const news = creation->take_news();
    ASSERT_EQ(news.size(), 2U);
    EXPECT_EQ(news[0].done, 1000U) << "how far it is by now";
    EXPECT_EQ(news[1].text, "writing manifest");
    EXPECT_TRUE(creation->take_news().empty());
}

}  // namespace
}  // namespace hearth::library
