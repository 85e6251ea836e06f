// `hearth ps`, `hearth stop` and `hearth estimate`: what models take in memory.
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "app/ollama_host.h"
#include "app/server_client.h"
#include "app/text_table.h"
#include "catalog/create.h"
#include "catalog/locate.h"
#include "models/adapter.h"
#include "models/estimate.h"
#include "models/gguf.h"

namespace hearth::app {
namespace {

using nlohmann::ordered_json;

constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::seconds kUnloadPatience = std::chrono::minutes(5);  // what runs is answered first

std::string mib(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

// What the server answered, or the exit code; a model it does not have is 3, no answer 4.
struct Asked {
    int exit = kExitOk;
    ordered_json body;
};

Asked ask(ServerClient const& server, std::string_view method, std::string const& path, std::chrono::seconds patience) {
    auto const answer = server.ask(method, path, {}, patience);
    if (!answer) {
        fmt::print(stderr, "hearth: {} ({}); --host says where a server runs\n", answer.error().message, server.url());
        return {kExitUnreachable, {}};
    }
    auto body = ordered_json::parse(answer->body, nullptr, false);
    if (answer->status == 200 && body.is_object()) return {kExitOk, std::move(body)};
    fmt::print(stderr, "hearth: {}\n", message_of(*answer));
    return {answer->status == 404 ? kExitModelMissing : kExitError, {}};
}

Asked ask(std::string const& host, std::string_view method, std::string const& path, std::chrono::seconds patience) {
    auto const address = server_address(host);
    if (!address) return {report(address.error()), {}};
    return ask(ServerClient(*address), method, path, patience);
}

std::string dumped(ordered_json const& json) {
    return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + '\n';
}

std::string until(ordered_json const& model) {
    auto const left = model.find("idle_left_s");
    if (left == model.end() || !left->is_number()) return "for ever";
    auto const seconds = left->get<double>();
    return seconds < 120 ? fmt::format("{:.0f} s", seconds) : fmt::format("{:.0f} min", seconds / 60);
}

// "ready", or of a model with several workers "ready 2/3".
std::string state_of(ordered_json const& model) {
    auto state = model.value("state", "");
    auto const instances = model.value("instances", ordered_json::array());
    if (instances.empty()) return state;
    auto const same =
        std::ranges::count_if(instances, [&](auto const& instance) { return instance.value("state", "") == state; });
    return fmt::format("{} {}/{}", state, same, instances.size());
}

std::string listed(ordered_json const& models) {
    std::vector<std::array<std::string, 5>> rows{{"NAME", "STATE", "MEMORY", "CONTEXT", "STAYS"}};
    for (auto const& model : models) {
        // A server of an earlier version has ids alone.
        rows.push_back({model.value("name", model.value("id", "")), state_of(model),
                        mib(model.value("memory_bytes", 0ULL)), std::to_string(model.value("context", 0U)),
                        until(model)});
    }
    return text_table(rows);
}

// Of those that its note puts on top.
Result<std::uint64_t> adapter_bytes_of(catalog::Located const& model, std::vector<std::string> const& folders) {
    HEARTH_TRY(auto const definition, catalog::definition_of(model.id, model.path, folders));
    std::uint64_t bytes = 0;
    for (auto const& adapter : definition.adapters) {
        HEARTH_TRY(auto const file, models::read_adapter(adapter.file));
        bytes += models::adapter_bytes(file);
    }
    return bytes;
}

std::string estimate_table(ordered_json const& said) {
    auto const part = [&said](char const* name) { return mib(said.value(name, 0ULL)); };
    return fmt::format(
        "{}\n  weights  {:>12}\n  cache    {:>12}  of {} tokens\n  scratch  {:>12}\n"
        "  process  {:>12}\n  total    {:>12}\n",
        said.value("model", ""), part("weights_bytes"), part("kv_bytes"), said.value("kv_cells", 0ULL),
        part("scratch_bytes"), part("process_bytes"), part("total_bytes"));
}

// As the server has it, or would have it: with its folders, context and cache.
int estimate_there(ServerClient const& server, EstimateFlags const& flags) {
    auto path = fmt::format("/api/v1/models/estimate?model={}", encode_segment(flags.model));
    if (flags.context != 0) path += fmt::format("&context={}", flags.context);
    if (flags.kv_cells != 0) path += fmt::format("&kv_cells={}", flags.kv_cells);
    auto const asked = ask(server, "GET", path, kPatience);
    return asked.exit == kExitOk ? write_out(flags.json ? dumped(asked.body) : estimate_table(asked.body)) : asked.exit;
}

int estimate_here(EstimateFlags const& flags) {
    auto const located = catalog::locate(flags.model, models_folders(flags.models_dirs));
    if (!located) return report(located.error());
    if (auto const checked = check_no_folder(located->path); !checked) return report(checked.error());
    auto const files = models::read_gguf_model(located->path);
    if (!files) return report(files.error());
    auto const cells = flags.kv_cells != 0 ? flags.kv_cells : models::default_cells(files->front(), flags.context);
    auto need = models::estimate_memory(*files, cells, models::kBatchDefault);
    auto const adapters = adapter_bytes_of(*located, models_folders(flags.models_dirs));
    if (!adapters) return report(adapters.error());
    need.weights += *adapters;
    ordered_json const said{
        {"model", located->id},          {"path", located->path},      {"kv_cells", cells},
        {"weights_bytes", need.weights}, {"kv_bytes", need.kv},        {"scratch_bytes", need.scratch},
        {"process_bytes", need.process}, {"total_bytes", need.total()}};
    return write_out(flags.json ? dumped(said) : estimate_table(said));
}

}  // namespace

int ps(PsFlags const& flags) {
    auto asked = ask(flags.host, "GET", "/api/v1/residency", kPatience);
    if (asked.exit != kExitOk) return asked.exit;
    auto loaded = ordered_json::array();
    for (auto const& model : asked.body.value("models", ordered_json::array())) {
        auto const state = model.value("state", "");
        if (state != "cold" && state != "failed" && state != "stopped") loaded.push_back(model);
    }
    asked.body["models"] = loaded;
    return write_out(flags.json ? dumped(asked.body) : listed(loaded));
}

int stop(StopFlags const& flags) {
    auto const asked =
        ask(flags.host, "POST", fmt::format("/api/v1/models/{}/unload", encode_segment(flags.model)), kUnloadPatience);
    return asked.exit == kExitOk && flags.json ? write_out(dumped(asked.body)) : asked.exit;
}

int estimate(EstimateFlags const& flags) {
    std::error_code unknown;
    bool const here = !flags.models_dirs.empty() || std::filesystem::exists(flags.model, unknown);
    auto const server = server_for(flags.host, here);
    if (!server) {
        bool const unreachable = server.error().code == Code::unavailable;
        int const code = report(server.error());
        return unreachable ? kExitUnreachable : code;
    }
    return *server ? estimate_there(**server, flags) : estimate_here(flags);
}

}  // namespace hearth::app
