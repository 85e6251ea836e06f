#include <array>
#include <charconv>
#include <cstdint>
#include <string_view>

#include <fmt/format.h>

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
constexpr std::array kTexts{TextArgument{"--id", &ModelSpec::id},
                            TextArgument{"--model", &ModelSpec::path},
                            TextArgument{"--draft", &ModelSpec::draft_path},
                            TextArgument{"--cpu-variant", &ModelSpec::cpu_variant},
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

// Sets the field that `name` names.
Status set(ModelSpec& spec, int& fd, std::string const& name, std::string const& value) {
    if (name == kFd) {
        HEARTH_TRY(fd, parse_number<int>(name, value));
        return ok();
    }
    if (name == kTenantWeight) return add_weight(spec, value);
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
