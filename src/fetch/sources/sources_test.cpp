#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "fetch/sources/hub_files.h"
#include "fetch/sources/manifest.h"
#include "fetch/sources/note.h"
#include "fetch/sources/plan.h"
#include "fetch/sources/pull.h"
#include "fetch/sources/reference.h"

namespace hearth::fetch {
namespace {

TEST(Reference, ReadsWhatPeopleWrite) {
    struct Case {
        char const* text;
        Reference expected;
    };
    for (auto const& [text, expected] : {
             Case{"org/repo", HubReference{"org", "repo", "main", ""}},
             Case{"hf.co/Org/Repo-GGUF:Q4_K_M", HubReference{"Org", "Repo-GGUF", "main", "Q4_K_M"}},
             Case{"huggingface.co/org/repo@v1.0:a.gguf", HubReference{"org", "repo", "v1.0", "a.gguf"}},
             Case{"https://huggingface.co/org/repo", HubReference{"org", "repo", "main", ""}},
             Case{"127.0.0.1:5000/ns/model:tag", RegistryReference{"127.0.0.1:5000", "ns", "model", "tag"}},
             Case{"Registry.example.org/ns/model", RegistryReference{"registry.example.org", "ns", "model", "latest"}},
             Case{"localhost/model", RegistryReference{"localhost", "library", "model", "latest"}},
             Case{"[::1]:5000/ns/model", RegistryReference{"[::1]:5000", "ns", "model", "latest"}},
             Case{"host.org/Model:7B", RegistryReference{"host.org", "library", "Model", "7B"}},
             Case{"./a.gguf", LocalReference{"./a.gguf"}},
             Case{"/a/b.gguf", LocalReference{"/a/b.gguf"}},
         }) {
        auto const reference = parse_reference(text);
        ASSERT_TRUE(reference) << text << ": " << reference.error().message;
        EXPECT_EQ(*reference, expected) << text;
    }
    auto const url = parse_reference("https://huggingface.co/org/repo/resolve/main/a.gguf");
    ASSERT_TRUE(url);
    EXPECT_TRUE(std::holds_alternative<UrlReference>(*url));
}

TEST(Reference, PartsCannotLeaveTheirPlace) {
    for (auto const* text : {"",
                             "model",
                             "org/..",
                             "../..:x",
                             "org/repo/..",
                             "hf.co/org",
                             "hf.co/org/../repo",
                             "hf.co/../repo",
                             "org/.hidden",
                             "org/repo:../../etc/passwd",
                             "org/repo@../x",
                             "org/re po",
                             "org/repo\n",
                             "host.org/ns/../model",
                             "host.org/ns/model:..",
                             "host.org/a/b/c",
                             "host.org/ns/model:a/b",
                             "host.org/ns/%2e%2e",
                             "host.org:99999/ns/m",
                             "user@host.org/ns/m",
                             "host.org/ns/model:",
                             "ftp://host/x",
                             "org/\xc3\xa4"}) {
        auto const reference = parse_reference(text);
        bool const stays = !reference || std::holds_alternative<LocalReference>(*reference);
        EXPECT_TRUE(stays) << text;
    }
    EXPECT_FALSE(parse_reference("org/" + std::string(kPartBytesMax + 1, 'x')));
    EXPECT_FALSE(parse_reference("host.org/ns/" + std::string(81, 'x'))) << "as of any model's name";
    EXPECT_FALSE(parse_reference(std::string(kReferenceBytesMax + 1, 'x')));
}

TEST(Reference, FileNamesStayInTheirFolder) {
    for (auto const* good : {"a.gguf", "model:tag.gguf", "a b"}) EXPECT_TRUE(is_file_name(good)) << good;
    for (auto const* bad : {"", ".", "..", ".hidden", "a/b", "a\\b", "a\nb"}) EXPECT_FALSE(is_file_name(bad)) << bad;
    EXPECT_FALSE(is_file_name(std::string(201, 'x')));
    EXPECT_FALSE(plan_url(UrlReference{*parse_url("https://host/..%2f..%2fetc%2fpasswd")}));
    EXPECT_FALSE(plan_url(UrlReference{*parse_url("https://host/")}));
}

TEST(HubFiles, ChoosesByQuantisation) {
    std::vector<HubFile> const files = {{"README.md", 1, ""},
                                        {"M-Q4_K_M.gguf", 1, ""},
                                        {"M-Q4_K_S.gguf", 1, ""},
                                        {"M-Q8_0.gguf", 1, ""},
                                        {"mmproj-M.gguf", 1, ""},
                                        {"M.imatrix.gguf", 1, ""},
                                        {"x/M-f16-00002-of-00002.gguf", 1, ""},
                                        {"x/M-f16-00001-of-00002.gguf", 1, ""}};
    auto const name = [&](std::string const& choice) {
        auto const chosen = choose_gguf(files, choice);
        return chosen ? chosen->front().path : chosen.error().message;
    };
    EXPECT_EQ(name(""), "M-Q4_K_M.gguf");
    EXPECT_EQ(name("q8_0"), "M-Q8_0.gguf");
    EXPECT_EQ(name("Q4_K_S"), "M-Q4_K_S.gguf");
    EXPECT_EQ(name("M-Q8_0.gguf"), "M-Q8_0.gguf");
    EXPECT_EQ(choose_gguf(files, "F16")->size(), 2U);
    EXPECT_EQ(name("F16"), "x/M-f16-00001-of-00002.gguf");
    EXPECT_NE(name("Q4").find("M-Q4_K_M"), std::string::npos) << "half a word is no choice: " << name("Q4");
    EXPECT_NE(name("Q6_K").find("there is no 'Q6_K'"), std::string::npos);
    EXPECT_TRUE(choose_gguf({{"README.md", 1, ""}}, "")->empty());
    auto const cut = choose_gguf({{"M-00001-of-00003.gguf", 1, ""}, {"M-00003-of-00003.gguf", 1, ""}}, "");
    ASSERT_FALSE(cut);
    EXPECT_NE(cut.error().message.find("should have 3 parts"), std::string::npos) << cut.error().message;
}

TEST(HubFiles, ChoosesAgainByWhatWasNoted) {
    auto const hash = [](char digit) { return std::string(64, digit); };
    std::vector<HubFile> const files = {{"M-Q4_K_M.gguf", 1, hash('a')},
                                        {"M-Q8_0.gguf", 1, hash('b')},
                                        {"plain/M-Q6_K.gguf", 1, ""},
                                        {"x/M-f16-00001-of-00002.gguf", 1, hash('c')},
                                        {"x/M-f16-00002-of-00002.gguf", 1, hash('d')}};
    auto const name = [&](std::vector<NotedFile> const& noted) {
        auto const chosen = choose_gguf_again(files, noted);
        return chosen ? chosen->front().path : chosen.error().message;
    };
    EXPECT_EQ(name({{"small.gguf", 1, hash('b'), ""}}), "M-Q8_0.gguf");
    EXPECT_EQ(name({{"s-00001-of-00002.gguf", 1, hash('c'), ""}, {"s-00002-of-00002.gguf", 1, hash('d'), ""}}),
              "x/M-f16-00001-of-00002.gguf");
    EXPECT_EQ(name({{"M-Q6_K.gguf", 1, hash('e'), ""}}), "plain/M-Q6_K.gguf") << "nobody says its hash";
    EXPECT_EQ(name({{"M-f16-00001-of-00002.gguf", 1, hash('e'), ""}}), "x/M-f16-00001-of-00002.gguf")
        << "another version is told of that file";
    auto const nothing = name({{"small.gguf", 1, hash('e'), ""}});
    EXPECT_NE(nothing.find("none of them is known to be 'small.gguf'"), std::string::npos) << nothing;
    auto const only = choose_gguf_again({{"M-Q8_0.gguf", 1, ""}}, {{"small.gguf", 1, hash('e'), ""}});
    ASSERT_TRUE(only) << only.error().message;
    EXPECT_EQ(only->front().path, "M-Q8_0.gguf") << "its bytes will be compared";
    EXPECT_TRUE(choose_gguf_again({{"config.json", 1, ""}}, {{"r/config.json", 1, "", ""}})->empty());
}

TEST(HubFiles, TakesSafetensorsAsAFolder) {
    auto const chosen = choose_safetensors({{"model-00001-of-00002.safetensors", 1, ""},
                                            {"model-00002-of-00002.safetensors", 1, ""},
                                            {"tokenizer.json", 1, ""},
                                            {"config.json", 1, ""},
                                            {"pytorch_model.bin", 1, ""},
                                            {"onnx/model.json", 1, ""},
                                            {"..json", 1, ""}});
    ASSERT_EQ(chosen.size(), 4U);
    EXPECT_EQ(chosen.front().path, "config.json");
    EXPECT_TRUE(choose_safetensors({{"config.json", 1, ""}}).empty());
}

TEST(HubFiles, TakesOneSetOfWeightsAndWhatConversionReads) {
    auto const names = [](std::vector<std::string> const& paths) {
        std::vector<HubFile> files;
        for (auto const& path : paths) files.push_back({path, 1, ""});
        std::vector<std::string> out;
        for (auto const& file : choose_safetensors(files)) out.push_back(file.path);
        return out;
    };
    EXPECT_EQ(
        names({"1_Pooling/config.json", "README.md", "config.json", "model.safetensors", "modules.json",
               "openvino/openvino_model.xml", "vocab.txt", "../config.json", "a/b/config.json", ".x/config.json"}),
        (std::vector<std::string>{"config.json", "1_Pooling/config.json", "README.md", "model.safetensors",
                                  "modules.json", "vocab.txt"}));
    EXPECT_EQ(
        names({"config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors",
               "consolidated.safetensors", "model.safetensors"}),
        (std::vector<std::string>{"config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors"}));
    EXPECT_EQ(names({"config.json", "model.safetensors", "consolidated.safetensors", "model.fp16.safetensors"}),
              (std::vector<std::string>{"config.json", "model.safetensors"}));
}

TEST(HubFiles, ReadsTheListingStrictly) {
    auto const sha = std::string(40, 'a');
    auto const good = parse_hub_listing(
        fmt::format(R"({{"sha":"{}","siblings":[{{"rfilename":"a.gguf","size":5,"lfs":{{"sha256":"{}"}}}}]}})", sha,
                    std::string(64, 'b')));
    ASSERT_TRUE(good) << good.error().message;
    EXPECT_EQ(good->files[0].size, 5U);
    EXPECT_EQ(good->files[0].sha256, std::string(64, 'b'));
    for (auto const& bad :
         {std::string("x"), std::string("{}"), std::string(R"({"siblings":[]})"),
          fmt::format(R"({{"sha":"../..","siblings":[]}})"), fmt::format(R"({{"sha":"{}","siblings":[1]}})", sha),
          fmt::format(R"({{"sha":"{}","siblings":[{{"size":1}}]}})", sha)})
        EXPECT_FALSE(parse_hub_listing(bad)) << bad;
}

std::string manifest(std::string const& digest, std::string const& size = "5", std::string const& kind = "model") {
    return fmt::format(
        R"({{"schemaVersion":2,"layers":[{{"mediaType":"application/vnd.ollama.image.{}","digest":"{}","size":{}}}]}})",
        kind, digest, size);
}

TEST(Manifest, TakesOnlyDigestsThatAreDigests) {
    auto const hex = std::string(64, 'a');
    auto const good = parse_manifest(manifest("sha256:" + hex));
    ASSERT_TRUE(good) << good.error().message;
    EXPECT_EQ(good->find("model")->sha256, hex);
    for (auto const& digest : {std::string("sha256:../../../../etc/passwd"), "sha256-" + hex, hex,
                               "sha256:" + hex + "0", "sha256:" + hex.substr(1), "sha256:" + hex.substr(1) + "/",
                               "SHA256:" + hex, "sha256:" + std::string(64, 'A'), "sha512:" + hex, std::string()})
        EXPECT_FALSE(parse_manifest(manifest(digest))) << digest;
}

TEST(Manifest, IsBounded) {
    auto const digest = "sha256:" + std::string(64, 'a');
    EXPECT_FALSE(parse_manifest(manifest(digest, "-1")));
    EXPECT_FALSE(parse_manifest(manifest(digest, "1.5")));
    EXPECT_FALSE(parse_manifest(manifest(digest, "99999999999999999")));
    EXPECT_FALSE(parse_manifest(manifest(digest, "5", "template")));
    EXPECT_FALSE(parse_manifest(std::string(100'000, '[')));
    EXPECT_FALSE(parse_manifest(std::string(kManifestBytesMax + 1, ' ')));
    EXPECT_FALSE(parse_manifest(R"({"schemaVersion":1,"layers":[]})"));
    EXPECT_FALSE(parse_manifest("null"));
}

TEST(Manifest, ReadsChallenges) {
    auto const challenge = parse_challenge(R"(Bearer realm="https://h/token",service="s",scope="repository:a:pull")");
    ASSERT_TRUE(challenge);
    EXPECT_EQ(challenge->realm, "https://h/token");
    EXPECT_EQ(challenge->scope, "repository:a:pull");
    for (auto const* bad :
         {"", "Basic realm=\"x\"", "Bearer", "Bearer realm=x", "Bearer realm=\"x", "Bearer service=\"x\""})
        EXPECT_FALSE(parse_challenge(bad)) << bad;
}

TEST(Manifest, TakesAdaptersButNotWithoutALimit) {
    auto const digest = "sha256:" + std::string(64, 'a');
    auto const layer = [&](std::string const& kind) {
        return fmt::format(R"({{"mediaType":"application/vnd.ollama.image.{}","digest":"{}","size":5}})", kind, digest);
    };
    auto const with = [&](std::size_t adapters) {
        auto layers = layer("model");
        for (std::size_t i = 0; i < adapters; ++i) layers += "," + layer("adapter");
        return parse_manifest(R"({"schemaVersion":2,"layers":[)" + layers + "]}");
    };
    EXPECT_EQ(with(kManifestAdaptersMax)->layers.size(), 1 + kManifestAdaptersMax);
    auto const many = with(kManifestAdaptersMax + 1);
    ASSERT_FALSE(many);
    EXPECT_NE(many.error().message.find("17 adapters, the limit is 16"), std::string::npos) << many.error().message;
}

TEST(Plan, RenamesAdaptersWithTheirModel) {
    Plan plan;
    for (auto const* name : {"a:7b.gguf", "a:7b.lora-1"}) {
        PlannedFile file;
        file.name = name;
        plan.files.push_back(file);
    }
    ASSERT_TRUE(rename(plan, "me/b:1.5"));
    EXPECT_EQ(plan.model, "me/b:1.5");
    EXPECT_EQ(plan.files[0].name, "me%2Fb:1.5.gguf");
    EXPECT_EQ(plan.files[1].name, "me%2Fb:1.5.lora-1");
}

TEST(Note, SurvivesItsFile) {
    std::string folder = (std::filesystem::temp_directory_path() / "hearth-note-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    Note note{"host/ns/m:t", "rev", {{"me%2Fm.gguf", 3, std::string(64, 'a'), "\"e\""}}, {{"system", "Hi"}}};
    note.adapters = {"me%2Fm.lora-1", "me%2Fm.lora-2"};
    ASSERT_TRUE(write_note(folder, "me/m", note));
    EXPECT_TRUE(std::filesystem::exists(folder + "/me%2Fm.hearth.json"));
    auto const back = read_note(folder, "me/m");
    ASSERT_TRUE(back);
    EXPECT_EQ(back->source, note.source);
    EXPECT_EQ(back->files, note.files);
    EXPECT_EQ(back->adapters, note.adapters);
    remove_note(folder, "me/m");
    EXPECT_FALSE(read_note(folder, "me/m"));
    std::filesystem::remove_all(folder);
}

TEST(Plan, RenamesAllItsFiles) {
    Plan plan;
    for (auto const* name : {"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"}) {
        PlannedFile file;
        file.name = name;
        plan.files.push_back(file);
    }
    ASSERT_TRUE(rename(plan, "b"));
    EXPECT_EQ(plan.model, "b");
    EXPECT_EQ(plan.files[1].name, "b-00002-of-00002.gguf");
    EXPECT_FALSE(rename(plan, "../b"));
    EXPECT_FALSE(rename(plan, ""));
}

TEST(HoldTo, APlanBringsWhatTheNoteSaysOrNothing) {
    std::string const had(64, 'a'), other(64, 'b');
    Note const note{"hf.co/org/repo", "rev", {{"m.gguf", 3, had, ""}, {"new.gguf", 3, "", ""}}, {}};
    Plan plan;
    plan.source = "hf.co/org/repo@rev";
    plan.files = {{"m.gguf", {}, {}, {}, 3}, {"new.gguf", {}, {}, other, 3}};
    ASSERT_TRUE(hold_to(plan, note));
    EXPECT_EQ(plan.source, note.source) << "the files stay those of what was asked for";
    EXPECT_EQ(plan.files[0].sha256, had) << "its source says none, so it is held to what was fetched before";
    EXPECT_EQ(plan.files[1].sha256, other);
    plan.files[0].sha256 = other;
    auto const held = hold_to(plan, note);
    ASSERT_FALSE(held);
    EXPECT_EQ(held.error().code, Code::corrupt);
    EXPECT_NE(held.error().message.find("another version of 'm.gguf'"), std::string::npos) << held.error().message;
}

TEST(HoldTo, WhatWasNotNotedIsNotBrought) {
    std::string const had(64, 'a'), other(64, 'b');
    Note const note{"hf.co/org/repo", "rev", {{"m.gguf", 3, had, ""}}, {}};
    Plan unknown, more;
    unknown.files = {{"unknown.gguf", {}, {}, had, 3}};
    more.files = {{"m.gguf", {}, {}, had, 3}, {"m.lora-1", {}, {}, other, 3}};
    for (auto* plan : {&unknown, &more}) {
        auto const held = hold_to(*plan, note);
        ASSERT_FALSE(held);
        EXPECT_EQ(held.error().code, Code::corrupt) << held.error().message;
    }
}

}  // namespace
}  // namespace hearth::fetch
