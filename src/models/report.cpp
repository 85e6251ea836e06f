#include "models/report.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "digest/sha256.h"
#include "models/adapter.h"
#include "models/gguf.h"

namespace hearth::models {
namespace {

// Names of general.file_type as upstream prints them; empty: never used or removed.
constexpr std::array<std::string_view, 42> kFileTypes = {
    "F32",    "F16",     "Q4_0",   "Q4_1",   "",       "",       "",       "Q8_0",  "Q5_0",    "Q5_1",   "Q2_K",
    "Q3_K_S", "Q3_K_M",  "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",  "IQ2_XXS", "IQ2_XS", "Q2_K_S",
    "IQ3_XS", "IQ3_XXS", "IQ1_S",  "IQ4_NL", "IQ3_S",  "IQ3_M",  "IQ2_S",  "IQ2_M", "IQ4_XS",  "IQ1_M",  "BF16",
    "",       "",        "",       "TQ1_0",  "TQ2_0",  "MXFP4",  "NVFP4",  "Q1_0",  "Q2_0"};

std::string quantization(GgufFile const& file, std::map<std::uint32_t, std::uint64_t> const& bytes_by_type) {
    auto const declared = file.number("general.file_type");
    if (declared && *declared < kFileTypes.size() && !kFileTypes[*declared].empty())
        return std::string(kFileTypes[*declared]);
    auto const largest = std::max_element(bytes_by_type.begin(), bytes_by_type.end(),
                                          [](auto const& a, auto const& b) { return a.second < b.second; });
    return largest == bytes_by_type.end() ? std::string() : std::string(ggml_type_name(largest->first));
}

void count_tensors(std::vector<GgufFile> const& files, CheckReport& report) {
    std::map<std::string, std::uint64_t> counts;
    std::map<std::uint32_t, std::uint64_t> bytes_by_type;
    for (auto const& file : files) {
        report.file_bytes += file.file_bytes;
        report.tensors += file.tensors.size();
        for (auto const& tensor : file.tensors) {
            std::uint64_t elements = 1;
            for (auto const dimension : tensor.dimensions) elements *= dimension;  // the validator checked the product
            report.parameters += elements;
            ++counts[std::string(ggml_type_name(tensor.type))];
            bytes_by_type[tensor.type] += tensor.bytes;
        }
        report.warnings.insert(report.warnings.end(), file.warnings.begin(), file.warnings.end());
    }
    report.tensor_types.assign(counts.begin(), counts.end());
    std::sort(report.tensor_types.begin(), report.tensor_types.end(), [](auto const& a, auto const& b) {
        return a.second != b.second ? a.second > b.second : a.first < b.first;
    });
    report.quantization = quantization(files[0], bytes_by_type);
}

// A number, or the largest of one per layer.
std::uint64_t largest(GgufFile const& file, std::string const& key) {
    if (auto const one = file.number(key)) return *one;
    auto const* array = file.array(key);
    if (array == nullptr || array->numbers.empty()) return 0;
    return static_cast<std::uint64_t>(
        std::max<std::int64_t>(0, *std::max_element(array->numbers.begin(), array->numbers.end())));
}

void describe(GgufFile const& file, CheckReport& report) {
    report.gguf_version = file.version;
    report.architecture = file.text("general.architecture");
    report.name = file.text("general.name");
    report.license = file.text("general.license");
    auto const key = [&](std::string_view name) { return fmt::format("{}.{}", report.architecture, name); };
    report.context_train = file.number(key("context_length")).value_or(0);
    report.embedding = file.number(key("embedding_length")).value_or(0);
    report.layers = file.number(key("block_count")).value_or(0);
    report.heads = largest(file, key("attention.head_count"));
    report.kv_heads = largest(file, key("attention.head_count_kv"));
    if (report.kv_heads == 0) report.kv_heads = report.heads;  // the engine's default
    if (auto const* tokens = file.array("tokenizer.ggml.tokens")) report.vocabulary = tokens->count;
    report.tokenizer = file.text("tokenizer.ggml.model");
    if (auto const pre = file.text("tokenizer.ggml.pre"); !pre.empty()) report.tokenizer += fmt::format(" ({})", pre);
    if (auto const source = file.text("tokenizer.chat_template"); !source.empty()) {
        report.chat_template = true;
        report.chat_template_sha256 = digest::sha256_hex(source);
    }
}

std::string human_bytes(std::uint64_t bytes) {
    constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_count(std::uint64_t count) {
    if (count >= 1'000'000'000) return fmt::format("{:.2f} billion", static_cast<double>(count) / 1e9);
    if (count >= 1'000'000) return fmt::format("{:.1f} million", static_cast<double>(count) / 1e6);
    return fmt::format("{}", count);
}

void render_facts(CheckReport const& r, std::string& out) {
    auto const row = [&](std::string_view label, std::string const& value) {
        if (!value.empty()) out += fmt::format("  {:<14}{}\n", label, printable(value));
    };
    row("name", r.name);
    row("architecture", r.architecture);
    row("parameters", human_count(r.parameters));
    row("quantization", r.quantization);
    row("size", fmt::format("{} in {} file{}, GGUF version {}", human_bytes(r.file_bytes), r.files,
                            r.files == 1 ? "" : "s", r.gguf_version));
    if (r.adapter) {
        row("kind", "LoRA adapter");
    } else {
        row("context", fmt::format("{} tokens", r.context_train));
        row("shape", fmt::format("{} layers, embedding {}, {} heads, {} key/value heads", r.layers, r.embedding,
                                 r.heads, r.kv_heads));
        row("tokenizer", fmt::format("{}, {} tokens", r.tokenizer, r.vocabulary));
        row("chat template", r.chat_template ? fmt::format("sha256 {}", r.chat_template_sha256) : "none");
    }
    row("license", r.license);
    std::string types;
    for (auto const& [type, count] : r.tensor_types)
        types += fmt::format("{}{} {}", types.empty() ? "" : ", ", count, type);
    row("tensors", fmt::format("{}: {}", r.tensors, types));
}

}  // namespace

std::string printable(std::string_view text) {
    std::string valid;
    Utf8Carry carry;
    carry.push(text, valid);
    carry.finish(valid);
    std::string out;
    for (std::size_t i = 0; i < valid.size(); ++i) {
        auto const byte = static_cast<unsigned char>(valid[i]);
        auto const next = i + 1 < valid.size() ? static_cast<unsigned char>(valid[i + 1]) : 0;
        if (byte == 0xc2 && next < 0xa0) {  // U+0080..U+009F
            out += ' ';
            ++i;
        } else {
            out += byte < 0x20 || byte == 0x7f ? ' ' : valid[i];
        }
    }
    return out;
}

CheckReport describe_model(std::vector<GgufFile> const& files) {
    CheckReport report;
    report.valid = true;
    report.files = static_cast<std::uint32_t>(files.size());
    describe(files.front(), report);
    count_tensors(files, report);
    if (report.gguf_version == 2) report.warnings.emplace_back("GGUF version 2 is old; version 3 is current");
    return report;
}

CheckReport check_model(std::string const& path) {
    auto const start = std::chrono::steady_clock::now();
    CheckReport report;
    auto const files = read_gguf_model(path);
    if (files) report = describe_model(*files);
    else report.problems.push_back(files.error().message);
    report.path = path;
    report.elapsed_ms = to_ms(std::chrono::steady_clock::now() - start);
    return report;
}

CheckReport check_any(std::string const& path) {
    auto report = check_model(path);
    auto adapter = report.valid ? Result<GgufFile>(Error()) : read_adapter(path);
    if (!adapter) return report;
    auto const elapsed_ms = report.elapsed_ms;
    report = {};
    report.valid = report.adapter = true;
    report.path = path;
    report.elapsed_ms = elapsed_ms;
    report.gguf_version = adapter->version;
    report.architecture = adapter->text("general.architecture");
    report.name = adapter->text("general.name");
    report.license = adapter->text("general.license");
    count_tensors({*std::move(adapter)}, report);
    return report;
}

std::string render_text(CheckReport const& report) {
    auto out = fmt::format("{}: {} ({:.1f} ms)\n", printable(report.path), report.valid ? "valid" : "refused",
                           report.elapsed_ms);
    if (report.valid) render_facts(report, out);
    for (auto const& problem : report.problems) out += fmt::format("  problem       {}\n", printable(problem));
    for (auto const& warning : report.warnings) out += fmt::format("  warning       {}\n", printable(warning));
    return out;
}

}  // namespace hearth::models
