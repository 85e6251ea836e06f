#include <string>

#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "models/report.h"

namespace hearth::app {
namespace {

nlohmann::ordered_json to_json(models::CheckReport const& r) {
    nlohmann::ordered_json types = nlohmann::ordered_json::object();
    for (auto const& [type, count] : r.tensor_types) types[type] = count;
    return {{"path", r.path},
            {"valid", r.valid},
            {"adapter", r.adapter},
            {"problems", r.problems},
            {"warnings", r.warnings},
            {"file_bytes", r.file_bytes},
            {"files", r.files},
            {"gguf_version", r.gguf_version},
            {"architecture", r.architecture},
            {"name", r.name},
            {"license", r.license},
            {"quantization", r.quantization},
            {"parameters", r.parameters},
            {"context_train", r.context_train},
            {"embedding", r.embedding},
            {"layers", r.layers},
            {"heads", r.heads},
            {"kv_heads", r.kv_heads},
            {"vocabulary", r.vocabulary},
            {"tokenizer", r.tokenizer},
            {"chat_template", r.chat_template},
            {"chat_template_sha256", r.chat_template_sha256},
            {"tensors", r.tensors},
            {"tensor_types", types},
            {"elapsed_ms", r.elapsed_ms}};
}

}  // namespace

int check(CheckFlags const& flags) {
    bool all_valid = true;
    std::string text;
    auto results = nlohmann::ordered_json::array();
    for (auto const& file : flags.files) {
        auto const checked = models::check_any(file);
        all_valid = all_valid && checked.valid;
        if (flags.json) {
            results.push_back(to_json(checked));
        } else {
            text += models::render_text(checked);
        }
    }
    // File names and metadata may hold bytes that are not UTF-8.
    if (flags.json) text = results.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
    if (int const written = write_out(text); written != kExitOk) return written;
    return all_valid ? kExitOk : kExitError;
}

}  // namespace hearth::app
