#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>

#include <fmt/format.h>

#include "domain/generate.h"
#include "serving/launcher.h"

namespace hearth::serving {
namespace {

struct TextArgument {
    std::string_view name;
    std::string ModelSpec::* field;
};
struct SizeArgument {
    std::string_view name;
    std::uint64_t ModelSpec::* field;
};
struct NumberArgument {
    std::string_view name;
    std::uint32_t ModelSpec::* field;
};

constexpr std::string_view kFd = "--fd";
constexpr std::string_view kTenantWeight = "--tenant-weight";  // NAME=N, repeated; the name may hold '='
constexpr std::string_view kPublicPrefix = "--public-prefix";  // the text itself, repeated
// SET:SCALE:PATH, repeated; sets are numbered from 1, in order. SET:0: is a set without adapters.
constexpr std::string_view kAdapter = "--adapter";
constexpr std::array kTexts{TextArgument{"--id", &ModelSpec::id},
                            TextArgument{"--model", &ModelSpec::path},
                            TextArgument{"--draft", &ModelSpec::draft_path},
                            TextArgument{"--cpu-variant", &ModelSpec::cpu_variant},
                            TextArgument{"--chat-template", &ModelSpec::chat_template},
                            TextArgument{"--cache-folder", &ModelSpec::cache_folder},
                            TextArgument{"--cache-key-file", &ModelSpec::cache_key_file}};
constexpr std::array kSizes{SizeArgument{"--cache-memory", &ModelSpec::cache_memory_bytes},
                            SizeArgument{"--cache-disk", &ModelSpec::cache_disk_bytes},
                            SizeArgument{"--cache-disk-total", &ModelSpec::cache_disk_total_bytes}};
constexpr std::array kNumbers{NumberArgument{"--ctx", &ModelSpec::context_request},
                              NumberArgument{"--kv-cells", &ModelSpec::kv_cells},
                              NumberArgument{"--max-seqs", &ModelSpec::sequences_max},
                              NumberArgument{"--threads", &ModelSpec::threads},
                              NumberArgument{"--prefix-cache", &ModelSpec::prefix_cache},
                              NumberArgument{"--speculation", &ModelSpec::speculation},
                              NumberArgument{"--draft-max", &ModelSpec::draft_max},
                              NumberArgument{"--step-target-ms", &ModelSpec::step_ms_target},
                              NumberArgument{"--deterministic", &ModelSpec::deterministic},
                              NumberArgument{"--max-requests", &ModelSpec::requests_max},
                              NumberArgument{"--credit", &ModelSpec::credit_tokens}};

template <typename T>
Result<T> parse_number(std::string_view name, std::string_view text) {
    T value{};
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{} || end != text.data() + text.size() || text.empty()) {
        return Error(Code::invalid_argument, fmt::format("{} must be a number, got '{}'", name, text),
                     std::string(name));
    }
    return value;
}

Status add_weight(ModelSpec& spec, std::string const& value) {
    auto const equals = value.rfind('=');
    double weight = 0;
    char const* const end = value.data() + value.size();
    if (equals != std::string::npos) {
        auto const [stop, failed] = std::from_chars(value.data() + equals + 1, end, weight);
        if (failed != std::errc{} || stop != end) weight = 0;
    }
    if (!(weight > 0)) {
        return Error(Code::invalid_argument,
                     fmt::format("{} must be NAME=N with N above 0, got '{}'", kTenantWeight, value),
                     std::string(kTenantWeight));
    }
    spec.tenant_weights.emplace_back(value.substr(0, equals), weight);
    return ok();
}

Status add_adapter(ModelSpec& spec, std::string const& value) {
    std::size_t set = 0;
    modelfile::Adapter adapter;
    char const* const end = value.data() + value.size();
    auto const first = std::from_chars(value.data(), end, set);
    bool good = first.ec == std::errc{} && first.ptr != end && *first.ptr == ':';
    auto const second = good ? std::from_chars(first.ptr + 1, end, adapter.scale) : first;
    good = good && second.ec == std::errc{} && second.ptr != end && *second.ptr == ':' && std::isfinite(adapter.scale);
    if (good) adapter.file.assign(second.ptr + 1, end);
    good = good && (!adapter.file.empty() || adapter.scale == 0);
    bool const next = set == spec.variants.size() + 1 && set <= domain::kAdapterSetsMax;
    bool const same = set > 0 && set == spec.variants.size() && !adapter.file.empty();
    if (!good || (!next && !same)) {
        return Error(Code::invalid_argument,
                     fmt::format("{} must be SET:SCALE:PATH with sets from 1 to {} in order, got '{}'", kAdapter,
                                 domain::kAdapterSetsMax, value),
                     std::string(kAdapter));
    }
    if (next) spec.variants.emplace_back();
    if (!adapter.file.empty()) spec.variants.back().adapters.push_back(std::move(adapter));
    return ok();
}

// Sets the field that `name` names.
Status set(ModelSpec& spec, int& fd, std::string const& name, std::string const& value) {
    if (name == kFd) {
        HEARTH_TRY(fd, parse_number<int>(name, value));
        return ok();
    }
    if (name == kTenantWeight) return add_weight(spec, value);
    if (name == kAdapter) return add_adapter(spec, value);
    if (name == kPublicPrefix) {
        spec.public_prefixes.push_back(value);
        return ok();
    }
    for (auto const& text : kTexts) {
        if (name != text.name) continue;
        spec.*text.field = value;
        return ok();
    }
    for (auto const& number : kNumbers) {
        if (name != number.name) continue;
        HEARTH_TRY(spec.*number.field, parse_number<std::uint32_t>(name, value));
        return ok();
    }
    for (auto const& size : kSizes) {
        if (name != size.name) continue;
        HEARTH_TRY(spec.*size.field, parse_number<std::uint64_t>(name, value));
        return ok();
    }
    return Error(Code::invalid_argument, fmt::format("unknown worker argument '{}'", name), name);
}

}  // namespace

std::uint32_t adapters_of(ModelSpec const& spec, std::string_view name) {
    auto const set_called = [&](std::string_view id) {
        auto const found =
            std::ranges::find_if(spec.variants, [&](auto const& each) { return each.id == id && !each.gone; });
        return found == spec.variants.end() ? 0U : static_cast<std::uint32_t>(found - spec.variants.begin()) + 1;
    };
    auto const set = set_called(name);
    return set != 0 ? set : set_called(spec.id);
}

std::uint32_t worn_by(ModelSpec const& spec, std::string_view name) {
    auto const set = adapters_of(spec, name);
    return set == 0 || spec.variants[set - 1].plain() ? 0U : set;
}

bool can_share_worker(ModelSpec const& base, ModelSpec other) {
    // What follows from the name and the file, and what a base may have besides.
    other.id = base.id;
    other.path = base.path;
    other.cache_folder = base.cache_folder;
    other.draft_path = base.draft_path;
    other.draft_max = base.draft_max;
    other.variants = base.variants;
    // And from what memory and cores leave each of its workers: --kv-cells is said of all models alike.
    other.kv_cells = base.kv_cells;
    if (base.instances > other.instances) {
        other.threads = base.threads;
        other.cache_memory_bytes = base.cache_memory_bytes;
    }
    auto const context_of = [](ModelSpec const& spec) {
        return spec.context_request != 0 ? spec.context_request : spec.context_default;
    };
    bool const known = context_of(base) != 0 && context_of(other) != 0;
    if (known && context_of(other) <= context_of(base)) other.context_request = base.context_request;
    return other.instances <= base.instances && worker_arguments(base, 0) == worker_arguments(other, 0);
}

std::vector<std::string> worker_arguments(ModelSpec const& spec, int fd) {
    std::vector<std::string> out{std::string(kFd), std::to_string(fd)};
    auto const add = [&](std::string_view name, std::string value) {
        out.emplace_back(name);
        out.push_back(std::move(value));
    };
    for (auto const& text : kTexts) add(text.name, spec.*text.field);
    for (auto const& number : kNumbers) add(number.name, std::to_string(spec.*number.field));
    for (auto const& size : kSizes) add(size.name, std::to_string(spec.*size.field));
    for (auto const& [tenant, weight] : spec.tenant_weights) add(kTenantWeight, fmt::format("{}={}", tenant, weight));
    for (auto const& text : spec.public_prefixes) add(kPublicPrefix, text);
    for (std::size_t set = 1; set <= spec.variants.size(); ++set) {
        auto const& variant = spec.variants[set - 1];
        if (variant.gone || variant.plain()) add(kAdapter, fmt::format("{}:0:", set));
        else
            for (auto const& [file, scale] : variant.adapters) add(kAdapter, fmt::format("{}:{}:{}", set, scale, file));
    }
    return out;
}

Result<std::pair<ModelSpec, int>> parse_worker_arguments(std::vector<std::string> const& arguments) {
    ModelSpec spec;
    int fd = -1;
    for (std::size_t i = 0; i < arguments.size(); i += 2) {
        if (i + 1 == arguments.size()) {
            return Error(Code::invalid_argument, fmt::format("worker argument '{}' has no value", arguments[i]),
                         arguments[i]);
        }
        HEARTH_CHECK(set(spec, fd, arguments[i], arguments[i + 1]));
    }
    if (fd < 0)
        return Error(Code::invalid_argument, "a worker needs --fd; it is started by `hearth serve`, not by hand",
                     std::string(kFd));
    if (spec.path.empty()) return Error(Code::invalid_argument, "a worker needs --model", "--model");
    return std::pair(std::move(spec), fd);
}

}  // namespace hearth::serving
