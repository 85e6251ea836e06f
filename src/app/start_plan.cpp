#include "app/start_plan.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "app/environment.h"
#include "app/making.h"
#include "catalog/catalog.h"
#include "catalog/layouts.h"
#include "llama/compute_threads.h"
#include "names/names.h"

namespace hearth::app {
namespace {

constexpr std::string_view kMostUsed = "most-used";
constexpr auto kPoll = std::chrono::milliseconds(5);
constexpr double kKeepAliveMax_s = 365.0 * 24 * 3600;
constexpr Duration kOllamaKeepAlive = std::chrono::minutes(5);  // its own default, which its clients count on

// A flag that gives models a number by their names.
struct NumberFlag {
    char const* name;
    char const* says;
};
constexpr NumberFlag kInstances{"--instances", "how many workers serve"};
constexpr NumberFlag kKeepAlive{"--keep-alive", "how long to keep"};

// With links resolved, where there is such a file.
std::string canonical(std::string const& path) {
    std::error_code failed;
    auto const real = std::filesystem::canonical(path, failed);
    return failed ? path : real.string();
}

// What it is served from, or what that was made of.
std::string origin_of(Given const& given, serving::ModelSpec const& spec) {
    auto const made = given.made_of.find(spec.id);
    return canonical(made == given.made_of.end() ? spec.path : made->second);
}

// Null where nothing can be read.
std::unique_ptr<catalog::Catalog> read_catalog(std::string const& data_dir) {
    auto const folder = data_folder(data_dir);
    if (folder.empty()) return nullptr;
    auto opened = catalog::Catalog::open(folder + "/catalog.db", catalog::Access::read_only);
    return opened ? *std::move(opened) : nullptr;
}

// The models of --model by whatever they are called.
class GivenNames {
public:
    GivenNames(Given& given, std::string const& data_dir) : given_(given), catalog_(read_catalog(data_dir)) {}

    // Null where none of them is meant.
    [[nodiscard]] serving::ModelSpec* find(std::string_view name) const;

private:
    template <typename Is>
    [[nodiscard]] serving::ModelSpec* called(Is const& is) const {
        auto const found = std::ranges::find_if(given_.specs, [&](serving::ModelSpec const& spec) {
            return is(spec.id) || std::ranges::any_of(spec.aliases, is) ||
                   std::ranges::any_of(spec.variants, is, &serving::Variant::id);
        });
        return found == given_.specs.end() ? nullptr : &*found;
    }

    Given& given_;
    std::unique_ptr<catalog::Catalog> const catalog_;
};

// In the library's order: exactly so, and only then in another spelling.
serving::ModelSpec* GivenNames::find(std::string_view name) const {
    if (auto* const exact = called([&](std::string const& each) { return each == name; })) return exact;
    auto const known =
        catalog_ ? catalog_->find(name) : Result<catalog::Model>(Error(Code::not_found, "there is no catalog"));
    if (known && !known->files.empty()) {
        auto const file = canonical(catalog::served_from(known->files));
        auto const serves = [&](serving::ModelSpec const& spec) { return origin_of(given_, spec) == file; };
        auto const spec = std::ranges::find_if(given_.specs, serves);
        if (spec != given_.specs.end()) return &*spec;
        if (known->name == name || std::ranges::find(known->aliases, name) != known->aliases.end()) return nullptr;
    }
    return called([&](std::string const& each) { return names::is_same_name(each, name); });
}

Error nobody(std::string const& flag, std::string const& name) {
    return {Code::invalid_argument, fmt::format("{} '{}': no model of that name is served", flag, name), flag};
}

Error twice(NumberFlag const& flag, std::string const& name) {
    return {Code::invalid_argument, fmt::format("{} says twice {} '{}'", flag.name, flag.says, name), flag.name};
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

// Nothing for what is no such number.
std::optional<double> read_seconds(std::string_view text) {
    double seconds = 0;
    char const* const begin = text.data();
    char const* const end = begin + text.size();
    auto const [last, failed] = std::from_chars(begin, end, seconds);
    bool const fits = failed == std::errc{} && last == end && seconds >= 0 && seconds <= kKeepAliveMax_s;
    return fits ? std::optional(seconds) : std::nullopt;
}

// 0 means never.
std::optional<Duration> as_keep_alive(double seconds) {
    if (seconds <= 0) return std::nullopt;
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

// To models of --model what is said of them; what is said of others is given back.
template <typename T, typename Tell>
Result<std::vector<std::pair<std::string, T>>> tell_given(NumberFlag const& flag,
                                                          std::vector<std::pair<std::string, T>> wishes,
                                                          GivenNames const& names, bool library, Tell const& tell) {
    std::set<std::string> told;
    std::vector<std::pair<std::string, T>> others;
    for (auto& wish : wishes) {
        auto* const spec = names.find(wish.first);
        if (spec == nullptr && !library) return nobody(flag.name, wish.first);
        // In another spelling it may be another model's.
        auto const same = [&](auto const& other) { return other.first == wish.first; };
        bool const again = spec != nullptr ? !told.insert(spec->id).second : std::ranges::any_of(others, same);
        if (again) return twice(flag, wish.first);
        if (spec != nullptr) tell(*spec, wish.second);
        else others.push_back(std::move(wish));
    }
    return others;
}

// As prepare_swap() judges it: the server may listen elsewhere by now, or allow other models.
Status may_be_moved(catalog::Catalog& catalog, library::Permits const& permits, std::vector<std::string> const& folders,
                    std::string const& path) {
    HEARTH_TRY(auto const models, catalog.list());
    auto allowed = library::may_take_over(permits, folders, path, nullptr);
    bool known = false;
    for (auto const& model : models) {
        if (model.files.empty() || canonical(catalog::served_from(model.files)) != path) continue;
        auto now = library::may_take_over(permits, folders, path, &model);
        if (now) return now;
        if (!std::exchange(known, true)) allowed = std::move(now);
    }
    return allowed;
}

// As --model would have it served, but for a context it cannot use: that flag was for the file it had.
Result<serving::ModelSpec> make_moved(Given& given, std::string const& id, std::string const& path,
                                      std::vector<std::string> const& folders, EngineFlags const& engine) {
    HEARTH_TRY(auto servable, make_servable(path, folders, engine, engine.memory_bytes));
    HEARTH_TRY(auto const own, engine_for(servable.made.empty() ? path : servable.made, engine));
    HEARTH_TRY(auto spec, spec_of(id, path, folders, own, servable.made));
    given.made_of.erase(id);
    if (!servable.made.empty()) given.made_of[id] = path;
    given.holds.push_back(std::move(servable.hold));
    return spec;
}

// Fails with `invalid_argument` for what is no model's name.
Result<library::Known> find_named(library::Library const& library, char const* flag, std::string const& name) {
    auto known = library.find(name);
    if (!known && known.error().code == Code::not_found) return nobody(flag, name);
    return known;
}

// Every name means a model, and one that plan_start() did not know by it is not in the pool already.
Status resolve_names(library::Library const& library, StartPlan& plan) {
    auto const status_of_given = [&](library::Known const& known) -> serving::ModelStatus const* {
        if (!known.status || std::ranges::find(plan.given, known.status->id) == plan.given.end()) return nullptr;
        return &*known.status;
    };
    auto const given_as = [](char const* flag, std::string const& name, library::Known const& known) {
        return Error(Code::invalid_argument,
                     fmt::format("{} '{}': that is '{}' here, as --model says; use that name", flag, name, known.name),
                     flag);
    };
    for (auto const& name : plan.pins) {
        HEARTH_TRY(auto const known, find_named(library, "--pin", name));
        auto const* const status = status_of_given(known);
        if (status != nullptr && !status->pinned) return given_as("--pin", name, known);
        plan.pinned.insert(known.name);
    }
    for (auto const& name : plan.preloads) {
        HEARTH_TRY(auto const known, find_named(library, "--preload", name));
        static_cast<void>(known);
    }
    for (auto const& [name, count] : plan.instances) {
        HEARTH_TRY(auto const known, find_named(library, "--instances", name));
        if (status_of_given(known) != nullptr && count > 1) return given_as("--instances", name, known);
        if (!plan.workers.emplace(known.name, count).second) return twice(kInstances, name);
    }
    for (auto const& [name, keep_alive] : plan.keep_alives.named) {
        HEARTH_TRY(auto const known, find_named(library, "--keep-alive", name));
        auto const* const status = status_of_given(known);
        if (status != nullptr && status->keep_alive != keep_alive) return given_as("--keep-alive", name, known);
        if (!plan.kept.emplace(known.name, keep_alive).second) return twice(kKeepAlive, name);
    }
    return ok();
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

Result<KeepAlives> read_keep_alives(ServeFlags const& flags) {
    KeepAlives out;
    if (flags.ollama) out.all = kOllamaKeepAlive;
    bool said = false;
    for (auto const& text : flags.keep_alives) {
        auto const equals = text.rfind('=');  // the name may hold one
        bool const named = equals != std::string::npos;
        auto const seconds = read_seconds(named ? std::string_view(text).substr(equals + 1) : text);
        if (!seconds || equals == 0)
            return Error(Code::invalid_argument,
                         fmt::format("--keep-alive must be SECONDS or NAME=SECONDS, seconds from 0 to {}, got '{}'",
                                     kKeepAliveMax_s, text),
                         "--keep-alive");
        if (!named && std::exchange(said, true))
            return Error(Code::invalid_argument,
                         fmt::format("--keep-alive says twice how long to keep all models, the second time '{}'", text),
                         "--keep-alive");
        if (named) out.named.emplace_back(text.substr(0, equals), as_keep_alive(*seconds));
        else out.all = as_keep_alive(*seconds);
    }
    return out;
}

Result<StartPlan> plan_start(Given& given, ServeFlags const& flags) {
    bool const library = !data_folder(flags.data_dir).empty();
    GivenNames const names(given, flags.data_dir);
    StartPlan plan;
    HEARTH_TRY(plan.keep_alives, read_keep_alives(flags));
    for (auto& spec : given.specs) {
        spec.lazy = flags.lazy;
        spec.keep_alive = plan.keep_alives.all;
        plan.given.push_back(spec.id);
    }
    for (auto const& name : flags.pins) {
        auto* const spec = names.find(name);
        if (spec == nullptr && !library) return nobody("--pin", name);
        if (spec != nullptr) spec->pinned = true;
        else plan.pins.push_back(name);
    }
    for (auto const& name : flags.preloads) {
        HEARTH_TRY(auto const most_used, read_most_used(name));
        auto* const spec = names.find(name);
        if (spec != nullptr) spec->lazy = false;
        else if (!library) return nobody("--preload", name);
        else if (most_used) plan.most_used = std::max(plan.most_used, *most_used);
        else plan.preloads.push_back(name);
    }
    std::vector<std::pair<std::string, std::uint32_t>> counts;
    for (auto const& text : flags.instances) {
        HEARTH_TRY(auto wish, read_instances(text));
        counts.push_back(std::move(wish));
    }
    auto const set_count = [](serving::ModelSpec& spec, std::uint32_t count) { set_instances(spec, count); };
    HEARTH_TRY(plan.instances, tell_given(kInstances, std::move(counts), names, library, set_count));
    auto const keep = [](serving::ModelSpec& spec, std::optional<Duration> stays) { spec.keep_alive = stays; };
    HEARTH_TRY(plan.keep_alives.named, tell_given(kKeepAlive, std::move(plan.keep_alives.named), names, library, keep));
    return plan;
}

// All of them compute at the same time when there is much to do.
void set_instances(serving::ModelSpec& spec, std::uint32_t count) {
    spec.instances = count;
    if (count > 1 && spec.threads == 0) spec.threads = std::max(1U, llama::usable_cores() / count);
    spec.cache_memory_bytes /= count;
}

Result<serving::ModelSpec> make_spec(library::SpecOrder const& order, ServeFlags const& flags, StartPlan const& plan) {
    HEARTH_TRY(auto const engine, engine_for(order.weights.empty() ? order.path : order.weights, flags.engine));
    // Folders may have been imported meanwhile.
    auto const folders = models_folders(flags.models_dirs, flags.data_dir);
    HEARTH_TRY(auto spec, spec_of(order.id, order.path, folders, engine, order.weights));
    spec.pinned = plan.pinned.contains(order.id);
    auto const kept = plan.kept.find(order.id);
    spec.keep_alive = kept != plan.kept.end() ? kept->second : plan.keep_alives.all;
    auto const workers = plan.workers.find(order.id);
    if (workers != plan.workers.end()) set_instances(spec, workers->second);
    if (spec.instances > 1) HEARTH_CHECK(fit_cache(spec, engine));
    return spec;
}

void apply_swaps(Given& given, ServeFlags const& flags, std::vector<std::string> const& folders,
                 library::Permits const& permits) {
    auto const catalog = read_catalog(flags.data_dir);
    if (!catalog) return;
    for (auto& spec : given.specs) {
        auto const origin = origin_of(given, spec);
        auto const path = catalog->swapped(spec.id, origin);
        if (!path || *path == origin) continue;
        auto const allowed = may_be_moved(*catalog, permits, folders, *path);
        auto moved = allowed ? make_moved(given, spec.id, *path, folders, flags.engine) : allowed.error();
        if (!moved) {
            fmt::print(stderr, "hearth: '{}' was moved to {}, which is not served: {}\n", spec.id, *path,
                       moved.error().message);
            continue;
        }
        moved->aliases = spec.aliases;
        spec = *std::move(moved);
    }
}

net::Task<Status> preload(library::Library& library, serving::Pool& pool, telemetry::Log& log, net::Loop& loop,
                          StartPlan& plan) {
    auto const resolved = resolve_names(library, plan);
    if (!resolved) co_return resolved;
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
