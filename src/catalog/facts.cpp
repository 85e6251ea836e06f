#include "catalog/facts.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

#include "catalog/folder_facts.h"
#include "models/gguf.h"
#include "models/report.h"

namespace hearth::catalog {
namespace {

// What the model can do, as far as its file tells: from keys that only such
// models have, and from what its template mentions.
std::vector<std::string> capabilities_of(models::GgufFile const& file) {
    std::vector<std::string> out;
    auto const architecture = file.text("general.architecture");
    auto const has = [&](std::string_view key) { return file.metadata.contains(key); };
    if (architecture == "clip") return {"vision"};
    constexpr std::uint64_t kRank = 4;
    auto const pooling = fmt::format("{}.pooling_type", architecture);
    bool const ranks = file.number(pooling) == kRank;
    out.emplace_back(ranks ? "rerank" : has(pooling) ? "embedding" : "completion");
    if (has("tokenizer.ggml.fim_pre_token_id") || has("tokenizer.ggml.prefix_token_id")) out.emplace_back("insert");
    auto const source = file.text("tokenizer.chat_template");
    if (source.find("tools") != std::string::npos) out.emplace_back("tools");
    if (source.find("<think>") != std::string::npos || source.find("enable_thinking") != std::string::npos)
        out.emplace_back("thinking");
    return out;
}

}  // namespace

void read_facts(Model& model) {
    if (is_folder(model.files)) return read_folder_facts(served_from(model.files), model);
    auto const& path = model.files.front().path;
    auto const report = models::check_model(path);
    model.problem = report.problems.empty() ? "" : report.problems.front();
    model.architecture = report.architecture;
    model.title = report.name;
    model.license = report.license;
    model.quantization = report.quantization;
    model.parameters = report.parameters;
    model.context = report.context_train;
    model.template_sha256 = report.chat_template_sha256;
    model.capabilities.clear();
    if (auto const file = models::read_gguf(path)) model.capabilities = capabilities_of(*file);
}

}  // namespace hearth::catalog
