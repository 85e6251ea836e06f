#include "app/start_plan.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "app/environment.h"
#include "catalog/catalog.h"
#include "llama/compute_threads.h"
#include "names/names.h"

namespace hearth::app {
namespace {

constexpr std::string_view kMostUsed = "most-used";
constexpr auto kPoll = std::chrono::milliseconds(5);

serving::ModelSpec* find_spec(std::vector<serving::ModelSpec>& specs, std::string const& name) {
    auto const found = std::ranges::find_if(specs, [&](serving::ModelSpec const& spec) {
        return spec.id == name || std::ranges::find(spec.aliases, name) != spec.aliases.end();
    });
    return found == specs.end() ? nullptr : &*found;
}

Error nobody(std::string const& flag, std::string const& name) {
    return {Code::invalid_argument, fmt::format("{} '{}': no model of that name is served", flag, name), flag};
}

// N of "most-used" or "most-used:N"; nothing for a name.
Result<std::optional<std::uint32_t>> read_most_used(std::string_view text) {
    if (text == kMostUsed) return std::optional(kMostUsedDefault);
    if (!text.starts_with(kMostUsed) || text[kMostUsed.size()] != ':') return std::optional<std::uint32_t>();
    auto const digits = text.substr(kMostUsed.size() + 1);
    std::uint32_t count = 0;
    auto const [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    bool const whole = failed == std::errc{} && end == digits.data() + digits.size();
    if (!whole || count == 0 || count > kMostUsedMax)
        return Error(Code::invalid_argument,
                     fmt::format("--preload most-used:N takes N from 1 to {}, got '{}'", kMostUsedMax, digits),
                     "--preload");
    return std::optional(count);
}

// NAME=N; the name may hold '='.
Result<std::pair<std::string, std::uint32_t>> read_instances(std::string const& text) {
    auto const equals = text.rfind('=');
    std::uint32_t count = 0;
    char const* const end = text.data() + text.size();
    auto const read = equals == std::string::npos ? std::from_chars_result{end, std::errc::invalid_argument}
                                                  : std::from_chars(text.data() + equals + 1, end, count);
    bool const fits = read.ec == std::errc{} && read.ptr == end && count > 0 && count <= serving::kInstancesMax;
    if (fits && equals > 0) return std::pair(text.substr(0, equals), count);
    return Error(Code::invalid_argument,
                 fmt::format("--instances must be NAME=N, N from 1 to {}, got '{}'", serving::kInstancesMax, text),
                 "--instances");
}

// Where nothing can be read nothing was moved.
std::string moved_to(catalog::Catalog& catalog, serving::ModelSpec const& spec) {
    std::error_code failed;
    auto const path = std::filesystem::canonical(spec.path, failed).string();
    auto const moved = failed ? Result<std::string>(spec.path) : catalog.swapped(spec.id, path);
    return moved && *moved != path ? *moved : spec.path;
}

// As prepare_swap() judges it: the server may listen elsewhere by now, or allow other models.
Status may_be_moved(catalog::Catalog& catalog, library::Permits const& permits, std::vector<std::string> const& folders,
                    std::string const& path) {
    HEARTH_TRY(auto const models, catalog.list());
    auto allowed = library::may_take_over(permits, folders, path, nullptr);
    for (auto const& model : models) {
        std::error_code failed;
        bool const has_it = !allowed && !model.files.empty() &&
                            std::filesystem::canonical(model.files.front().path, failed).string() == path;
        if (has_it) allowed = library::may_take_over(permits, folders, path, &model);
    }
    return allowed;
}

net::Task<void> until_settled(serving::Pool& pool, net::Loop& loop, std::string id) {
    using enum serving::ModelState;
    for (;;) {
        auto const status = pool.status(id);
        bool const comes = status && (status->state == cold || status->state == starting || status->state == loading);
        if (!comes) co_return;
        co_await loop.sleep(kPoll);
    }
}

}  // namespace

Result<StartPlan> plan_start(std::vector<serving::ModelSpec>& specs, ServeFlags const& flags) {
    bool const library = !data_folder(flags.data_dir).empty();
    StartPlan plan;
    for (auto& spec : specs) spec.lazy = flags.lazy;
    for (auto const& name : flags.pins) {
        auto* const spec = find_spec(specs, name);
        if (spec == nullptr && !library) return nobody("--pin", name);
        if (spec != nullptr) spec->pinned = true;
        else plan.pins.push_back(name);
    }
    for (auto const& name : flags.preloads) {
        HEARTH_TRY(auto const most_used, read_most_used(name));
        auto* const spec = find_spec(specs, name);
        if (spec != nullptr) spec->lazy = false;
        else if (!library) return nobody("--preload", name);
        else if (most_used) plan.most_used = std::max(plan.most_used, *most_used);
        else plan.preloads.push_back(name);
    }
    for (auto const& text : flags.instances) {
        HEARTH_TRY(auto wish, read_instances(text));
        auto* const spec = find_spec(specs, wish.first);
        if (spec == nullptr && !library) return nobody("--instances", wish.first);
        if (spec != nullptr) set_instances(*spec, wish.second);
        else plan.instances.push_back(std::move(wish));
    }
    return plan;
}

// All of them compute at the same time when there is much to do.
void set_instances(serving::ModelSpec& spec, std::uint32_t count) {
    spec.instances = count;
    if (count > 1 && spec.threads == 0) spec.threads = std::max(1U, llama::usable_cores() / count);
    spec.cache_memory_bytes /= count;
}

std::uint32_t instances_of(StartPlan const& plan, std::string_view id) {
    auto const named =
        std::ranges::find_if(plan.instances, [&](auto const& wish) { return names::is_same_name(wish.first, id); });
    return named == plan.instances.end() ? 1 : named->second;
}

bool is_pinned(StartPlan const& plan, std::string_view id) {
    return std::ranges::any_of(plan.pins, [&](auto const& name) { return names::is_same_name(name, id); });
}

void apply_swaps(std::vector<serving::ModelSpec>& specs, ServeFlags const& flags,
                 std::vector<std::string> const& folders, library::Permits const& permits) {
    auto const folder = data_folder(flags.data_dir);
    if (folder.empty()) return;
    auto const opened = catalog::Catalog::open(folder + "/catalog.db", catalog::Access::read_only);
    if (!opened) return;
    for (auto& spec : specs) {
        auto const path = moved_to(**opened, spec);
        if (path == spec.path) continue;
        auto const allowed = may_be_moved(**opened, permits, folders, path);
        auto moved = allowed ? spec_of(spec.id, path, folders, flags.engine) : allowed.error();
        if (!moved) {
            fmt::print(stderr, "hearth: '{}' was moved to {}, which is not served: {}\n", spec.id, path,
                       moved.error().message);
            continue;
        }
        moved->aliases = spec.aliases;
        moved->tenant_weights = spec.tenant_weights;
        moved->public_prefixes = spec.public_prefixes;
        moved->keep_alive = spec.keep_alive;
        spec = *std::move(moved);
    }
}

net::Task<Status> preload(library::Library& library, serving::Pool& pool, telemetry::Log& log, net::Loop& loop,
                          StartPlan const& plan) {
    for (auto const& name : plan.pins)
        if (!library.find(name)) co_return nobody("--pin", name);
    for (auto const& name : plan.preloads)
        if (!library.find(name)) co_return nobody("--preload", name);
    for (auto const& name : plan.preloads) {
        auto const id = co_await library.open(name, library::Use::not_counted);
        auto const wanted = id ? pool.warm(*id, std::nullopt) : Status(id.error());
        if (!wanted) log.error("model is not preloaded", {{"model", name}, {"why", wanted.error().message}});
        else co_await until_settled(pool, loop, *id);
    }
    if (plan.most_used == 0) co_return ok();
    auto const names = co_await library.most_used(plan.most_used);
    if (!names) {
        log.warning("nobody knows which models are used most", {{"why", names.error().message}});
        co_return ok();
    }
    auto const budget = pool.memory().budget_bytes;
    auto sum = pool.memory().used_bytes;
    for (auto const& name : *names) {
        auto const id = co_await library.open(name, library::Use::not_counted);
        auto const status = id ? pool.status(*id) : Result<serving::ModelStatus>(id.error());
        if (!status || status->state != serving::ModelState::cold) continue;
        if (budget != 0 && sum + status->memory_bytes > budget) continue;
        sum += status->memory_bytes;
        if (pool.warm(*id, std::nullopt)) log.info("preloading a model that is used much", {{"model", *id}});
    }
    co_return ok();
}

}  // namespace hearth::app
