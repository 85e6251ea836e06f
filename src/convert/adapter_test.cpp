// Adapters as PEFT saves them: orders of rows, types and scales, and what is refused.
#include "convert/adapter.h"

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "models/adapter.h"
#include "testing/gguf_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::convert {
namespace {

using models::testing::SafetensorsWriter;
using models::testing::write_file;

// tiny_llama(): 4 heads of 8, 2 of them of keys, and a feed-forward layer of 64.
constexpr std::uint64_t kWidth = 32, kKeys = 16, kWide = 64, kRank = 2;

// Each row holds its own number.
std::string rows(std::uint64_t count, std::uint64_t columns) {
    std::string out;
    for (std::uint64_t row = 0; row < count; ++row) {
        float const value = static_cast<float>(row);
        for (std::uint64_t i = 0; i < columns; ++i) out.append(reinterpret_cast<char const*>(&value), sizeof(value));
    }
    return out;
}

class PeftFolder : public ::testing::Test {
protected:
    PeftFolder() {
        std::ofstream(folder_ / "base.gguf", std::ios::binary) << models::testing::tiny_llama().build();
        config("");
    }
    void config(std::string const& more, std::string const& alpha = "16") {
        write_file(folder_ / "adapter_config.json", R"({"peft_type":"LORA","bias":"none","r":2,"use_dora":false,)"
                                                    R"("modules_to_save":null,"alpha_pattern":{},"lora_alpha":)" +
                                                        alpha + more + "}");
    }
    static SafetensorsWriter& change(SafetensorsWriter& out, std::string const& module, std::uint64_t in,
                                     std::uint64_t height) {
        auto const name = "base_model.model.model.layers.0." + module;
        out.tensor(name + ".lora_A.weight", "F32", {kRank, in}, rows(kRank, in));
        return out.tensor(name + ".lora_B.weight", "F32", {height, kRank}, rows(height, kRank));
    }
    void weights(SafetensorsWriter const& writer) { write_file(folder_ / "adapter_model.safetensors", writer.build()); }
    void whole() {
        SafetensorsWriter out;
        change(out, "self_attn.q_proj", kWidth, kWidth);
        change(out, "self_attn.k_proj", kWidth, kKeys);
        weights(change(out, "mlp.down_proj", kWide, kWidth));
    }
    Result<Report> convert(std::optional<ElementType> type = {}) {
        int const fd = ::open((folder_ / "out.gguf").c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
        auto report = convert_adapter(
            {.folder = folder_.path(), .base = folder_ / "base.gguf", .output = fd, .type = type}, {}, {});
        ::close(fd);
        return report;
    }
    void expect_refused(Code code, std::string_view part) {
        auto const report = convert();
        ASSERT_FALSE(report) << part;
        EXPECT_EQ(report.error().code, code) << report.error().message;
        EXPECT_NE(report.error().message.find(part), std::string::npos) << report.error().message;
    }
    // The first number of each row of a tensor of F32.
    std::vector<int> first_numbers(models::GgufFile const& file, std::string_view name) {
        std::ifstream in(file.path, std::ios::binary);
        std::string const bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
        std::vector<int> out;
        for (auto const& tensor : file.tensors) {
            if (tensor.name != name) continue;
            for (std::uint64_t row = 0; row < tensor.dimensions[1]; ++row) {
                float value = 0;
                std::memcpy(&value, bytes.data() + file.data_offset + tensor.offset + row * tensor.dimensions[0] * 4,
                            4);
                out.push_back(static_cast<int>(value));
            }
        }
        return out;
    }

    hearth::testing::TemporaryFolder folder_;
};

TEST_F(PeftFolder, BecomesAnAdapterThatFitsItsBase) {
    whole();
    auto const report = convert();
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->tensors, 6U);
    EXPECT_EQ(report->type, "f32");
    auto const file = models::read_adapter(folder_ / "out.gguf");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(report->file_bytes, file->file_bytes);
    EXPECT_EQ(std::get<double>(file->metadata.at("adapter.lora.alpha")), 16.0);
    auto const fits = models::check_adapter(*file, *models::read_gguf_model(folder_ / "base.gguf"));
    EXPECT_TRUE(fits) << fits.error().message;
}

TEST_F(PeftFolder, OneThatChangedItsBaseIsRefused) {
    whole();
    for (auto const* start : {"pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"}) {
        config(fmt::format(R"(,"init_lora_weights":"{}")", start));
        expect_refused(Code::unsupported, "init_lora_weights");
    }
    for (auto const* start : {"true", "false", R"("gaussian")", R"("orthogonal")"}) {
        config(fmt::format(R"(,"init_lora_weights":{})", start));
        EXPECT_TRUE(convert()) << start;
    }
}

TEST_F(PeftFolder, OneAlphaOfTheRootIsOfOneRank) {
    whole();
    config(R"(,"use_rslora":true)");
    EXPECT_TRUE(convert());
    write_file(folder_ / "adapter_config.json",
               R"({"peft_type":"LORA","bias":"none","r":4,"use_rslora":true,"lora_alpha":16})");
    expect_refused(Code::corrupt, "the configuration says 4");
}

// As the rows of the base's own queries and keys: pairs, where the folder has halves.
TEST_F(PeftFolder, RowsOfQueriesAndKeysAreInTheEnginesOrder) {
    whole();
    ASSERT_TRUE(convert());
    auto const file = *models::read_adapter(folder_ / "out.gguf");
    std::vector<int> const head{0, 4, 1, 5, 2, 6, 3, 7};
    std::vector<int> queries, keys, down;
    for (int at = 0; at < 4; ++at)
        for (int const row : head) queries.push_back(8 * at + row);
    keys.assign(queries.begin(), queries.begin() + kKeys);
    for (int row = 0; row < static_cast<int>(kWidth); ++row) down.push_back(row);
    EXPECT_EQ(first_numbers(file, "blk.0.attn_q.weight.lora_b"), queries);
    EXPECT_EQ(first_numbers(file, "blk.0.attn_k.weight.lora_b"), keys);
    EXPECT_EQ(first_numbers(file, "blk.0.ffn_down.weight.lora_b"), down);
    EXPECT_EQ(first_numbers(file, "blk.0.attn_q.weight.lora_a"), (std::vector<int>{0, 1}));
}

TEST_F(PeftFolder, TypesAreTheFilesOrTheOneThatWasAskedFor) {
    whole();
    ASSERT_TRUE(convert(ElementType::f16));
    auto const half = *models::read_adapter(folder_ / "out.gguf");
    EXPECT_EQ(models::ggml_type_name(half.tensors[0].type), "F16");
    SafetensorsWriter out;
    std::string const name = "base_model.model.model.layers.0.self_attn.v_proj";
    out.tensor(name + ".lora_A.weight", "BF16", {1, kWidth}, std::string(2 * kWidth, '\1'));
    weights(out.tensor(name + ".lora_B.weight", "BF16", {kKeys, 1}, std::string(2 * kKeys, '\2')));
    ASSERT_TRUE(convert());
    auto const brain = *models::read_adapter(folder_ / "out.gguf");
    EXPECT_EQ(models::ggml_type_name(brain.tensors[0].type), "BF16");
}

TEST_F(PeftFolder, AScaleByTheRootOfTheRankIsKept) {
    whole();
    config(R"(,"use_rslora":true)");
    ASSERT_TRUE(convert());
    auto const file = *models::read_adapter(folder_ / "out.gguf");
    // The engine divides by the rank: 16 * sqrt(2) / 2 is 16 / sqrt(2).
    EXPECT_NEAR(std::get<double>(file.metadata.at("adapter.lora.alpha")), 16 * std::sqrt(2.0), 1e-5);
    config(R"(,"use_rslora":true,"rank_pattern":{"q_proj":4})");
    expect_refused(Code::unsupported, "rank_pattern");
}

TEST_F(PeftFolder, WhatTheEngineCannotApplyIsRefused) {
    whole();
    for (auto const& [key, value] : {std::pair{"fan_in_fan_out", "true"},
                                     {"layer_replication", "[[0,1]]"},
                                     {"alora_invocation_tokens", "[1]"},
                                     {"invocation_string", "\"x\""}}) {
        config(fmt::format(",\"{}\":{}", key, value));
        expect_refused(Code::unsupported, key);
    }
    write_file(folder_ / "adapter_config.json", R"({"peft_type":"LORA","lora_alpha":1,"use_dora":true})");
    expect_refused(Code::unsupported, "use_dora");
    write_file(folder_ / "adapter_config.json", R"({"peft_type":"LORA","lora_alpha":1,"bias":"all"})");
    expect_refused(Code::unsupported, "bias");
    write_file(folder_ / "adapter_config.json", R"({"peft_type":"IA3"})");
    expect_refused(Code::unsupported, "IA3");
    config("", "\"16\"");
    expect_refused(Code::corrupt, "lora_alpha");
    std::ofstream(folder_ / "base.gguf", std::ios::binary)
        << models::testing::tiny_llama().text("general.architecture", "llama4").build();
    config("");
    EXPECT_FALSE(convert());
}

TEST_F(PeftFolder, TensorsThatAreNoChangesOfMatricesAreNamed) {
    auto const refused = [&](Code code, std::string_view part, auto&& fill) {
        SafetensorsWriter out;
        fill(out);
        weights(out);
        expect_refused(code, part);
    };
    std::string const layer = "base_model.model.model.layers.0.";
    refused(Code::unsupported, "no change of a matrix",
            [&](auto& out) { out.tensor(layer + "input_layernorm.weight", "F32", {kWidth}, rows(kWidth, 1)); });
    refused(Code::corrupt, "has no lora_B", [&](auto& out) {
        out.tensor(layer + "mlp.up_proj.lora_A.weight", "F32", {kRank, kWidth}, rows(kRank, kWidth));
    });
    refused(Code::unsupported, "not known", [&](auto& out) { change(out, "mlp.side_proj", kWidth, kWidth); });
    refused(Code::unsupported, "changes of embeddings", [&](auto& out) {
        out.tensor("base_model.model.model.embed_tokens.lora_A.weight", "F32", {kRank, 8}, rows(kRank, 8));
    });
    refused(Code::unsupported, "its type I32", [&](auto& out) {
        out.tensor(layer + "mlp.up_proj.lora_A.weight", "I32", {kRank, kWidth}, rows(kRank, kWidth));
    });
    refused(Code::corrupt, "rank 3", [&](auto& out) {
        out.tensor(layer + "mlp.up_proj.lora_A.weight", "F32", {kRank, kWidth}, rows(kRank, kWidth));
        out.tensor(layer + "mlp.up_proj.lora_B.weight", "F32", {kWide, 3}, rows(kWide, 3));
    });
    refused(Code::corrupt, "are not 4 heads", [&](auto& out) { change(out, "self_attn.q_proj", kWidth, 30); });
    std::filesystem::remove(folder_ / "adapter_model.safetensors");
    expect_refused(Code::not_found, "adapter_model.safetensors");
}

}  // namespace
}  // namespace hearth::convert
