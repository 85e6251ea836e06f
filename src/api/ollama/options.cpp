// The entries of "options". Ranges of samplers are domain::validate()'s.
#include <limits>
#include <string>
#include <type_traits>

#include <fmt/format.h>

#include "api/ollama/fields.h"

namespace hearth::api::ollama {
namespace {

using P = domain::SamplingParams;
using enum Action;

constexpr std::int64_t kTokensMax = 1 << 24;  // as domain::validate

// Ollama's words.
Problem wrong_type(Field const& field, JsonView value) {
    return make_problem(
        Kind::invalid_type,
        fmt::format("option \"{}\" must be of type {}, got {}", field.name, field.type, describe(value.kind())),
        field.name);
}

bool is_number(JsonView value) { return value.kind() == JsonKind::integer || value.kind() == JsonKind::number; }

Verdict read_number(Field const& field, JsonView value, float& out) {
    if (!is_number(value)) return wrong_type(field, value);
    return read_float(field.name, value, out);
}

Verdict read_whole(Field const& field, JsonView value, std::int64_t low, std::int64_t high, std::int64_t& out) {
    if (!is_number(value)) return wrong_type(field, value);
    return read_integer(field.name, value, low, high, out);
}

template <auto Member>
Verdict sampling(Field const& field, JsonView value, Draft& draft) {
    auto& target = draft.request.sampling.*Member;
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(target)>, float>) {
        return read_number(field, value, target);
    } else {
        std::int64_t number = 0;
        if (auto problem = read_whole(field, value, std::numeric_limits<std::int32_t>::min(),
                                      std::numeric_limits<std::int32_t>::max(), number))
            return problem;
        target = static_cast<std::int32_t>(number);
        return std::nullopt;
    }
}

// Not above zero: as long as there is room, which is Ollama's -1 and -2.
Verdict num_predict(Field const& field, JsonView value, Draft& draft) {
    std::int64_t tokens = 0;
    if (auto problem = read_whole(field, value, std::numeric_limits<std::int32_t>::min(), kTokensMax, tokens))
        return problem;
    draft.request.max_tokens.reset();
    if (tokens > 0) draft.request.max_tokens = static_cast<std::uint32_t>(tokens);
    return std::nullopt;
}

Verdict num_keep(Field const& field, JsonView value, Draft& draft) {
    std::int64_t tokens = 0;
    if (auto problem = read_whole(field, value, 0, kTokensMax, tokens)) return problem;
    draft.request.keep_tokens = static_cast<std::uint32_t>(tokens);
    return std::nullopt;
}

Verdict num_ctx(Field const& field, JsonView value, Draft& draft) {
    std::int64_t tokens = 0;
    if (auto problem = read_whole(field, value, 1, kTokensMax, tokens)) return problem;
    draft.num_ctx = static_cast<std::uint32_t>(tokens);
    return std::nullopt;
}

Verdict seed(Field const& field, JsonView value, Draft& draft) {
    std::int64_t number = 0;
    if (auto problem = read_whole(field, value, std::numeric_limits<std::int64_t>::min(),
                                  std::numeric_limits<std::int64_t>::max(), number))
        return problem;
    draft.request.sampling.seed.reset();
    if (number != -1) draft.request.sampling.seed = static_cast<std::uint64_t>(number);
    return std::nullopt;
}

Verdict top_k(Field const& field, JsonView value, Draft& draft) {
    if (auto problem = sampling<&P::top_k>(field, value, draft)) return problem;
    if (draft.request.sampling.top_k < 0) draft.request.sampling.top_k = 0;
    return std::nullopt;
}

Verdict mirostat(Field const& field, JsonView value, Draft& draft) {
    std::int64_t version = 0;
    if (auto problem = read_whole(field, value, 0, 2, version)) return problem;
    draft.request.sampling.mirostat = static_cast<domain::Mirostat>(version);
    return std::nullopt;
}

Verdict stop(Field const& field, JsonView value, Draft& draft) {
    if (value.kind() != JsonKind::array) return wrong_type(field, value);
    if (auto problem = read_array(field.name, value, domain::kStopStringsMax, "strings")) return problem;
    draft.request.stop.clear();
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_string(fmt::format("stop[{}]", i), value.at(i), draft.request.stop.emplace_back()))
            return problem;
    return std::nullopt;
}

Verdict whole_ignored(Field const& field, JsonView value, Draft&) {
    std::int64_t number = 0;
    return read_whole(field, value, std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max(),
                      number);
}

Verdict boolean_ignored(Field const& field, JsonView value, Draft&) {
    if (value.kind() != JsonKind::boolean) return wrong_type(field, value);
    return std::nullopt;
}

constexpr auto kBoth = Surface::both;

// clang-format off
constexpr Field kOptions[] = {
    {"num_predict",       kBoth, honoured, "int",     "tokens to write, at most 16777216; 0 and below, the default: until the model ends or the context is full", num_predict},
    {"temperature",       kBoth, honoured, "float32", "0 (greedy) to 100, default 0.8", sampling<&P::temperature>},
    {"top_k",             kBoth, honoured, "int",     "default 40; 0 and below: off", top_k},
    {"top_p",             kBoth, honoured, "float32", "0 to 1 (off), default 0.9", sampling<&P::top_p>},
    {"min_p",             kBoth, honoured, "float32", "0 (off, the default) to 1", sampling<&P::min_p>},
    {"typical_p",         kBoth, honoured, "float32", "0 to 1 (off, the default)", sampling<&P::typical_p>},
    {"repeat_last_n",     kBoth, honoured, "int",     "-1 (whole context) to 16777216, default 64", sampling<&P::repeat_last_n>},
    {"repeat_penalty",    kBoth, honoured, "float32", "0.01 to 100, default 1 (off)", sampling<&P::repeat_penalty>},
    {"presence_penalty",  kBoth, honoured, "float32", "-2 to 2, default 0", sampling<&P::presence_penalty>},
    {"frequency_penalty", kBoth, honoured, "float32", "-2 to 2, default 0", sampling<&P::frequency_penalty>},
    {"mirostat",          kBoth, honoured, "int",     "0 (off, the default), 1 or 2", mirostat},
    {"mirostat_tau",      kBoth, honoured, "float32", "0 to 100, default 5", sampling<&P::mirostat_tau>},
    {"mirostat_eta",      kBoth, honoured, "float32", "0 to 1, default 0.1", sampling<&P::mirostat_eta>},
    {"seed",              kBoth, honoured, "int",     "any 64-bit integer; -1, the default: drawn by the server", seed},
    {"stop",              kBoth, honoured, "array",   "at most 16 strings of 1 to 256 bytes", stop},
    {"num_keep",          kBoth, honoured, "int",     "0 to 16777216 tokens of the prompt's head that stay when something must go; default: its first message, "
                                                      "where Ollama keeps 4 tokens", num_keep},
    {"num_ctx",           kBoth, honoured, "int",     "tokens of prompt and answer; the model is never loaded again for it. At least what `--ctx` says is given, at most what "
                                                      "the model was trained on; more than the KV cache holds (`--kv-cells`) is an error that names both", num_ctx},
    {"num_batch",         kBoth, ignored,  "int",     "the scheduler chooses the batch", whole_ignored},
    {"num_gpu",           kBoth, ignored,  "int",     "where a model runs is chosen when the server starts", whole_ignored},
    {"main_gpu",          kBoth, ignored,  "int",     "as num_gpu", whole_ignored},
    {"use_mmap",          kBoth, ignored,  "bool",    "files are always mapped", boolean_ignored},
    {"num_thread",        kBoth, ignored,  "int",     "threads are chosen when the server starts (`--threads`)", whole_ignored},
    {"draft_num_predict", kBoth, ignored,  "int",     "guesses ahead never change an answer", whole_ignored},
};
// clang-format on

}  // namespace

std::span<Field const> options() { return kOptions; }

}  // namespace hearth::api::ollama
