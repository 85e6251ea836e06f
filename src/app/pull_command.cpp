#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "app/pull_display.h"
#include "catalog/catalog.h"
#include "catalog/known_models.h"
#include "fetch/sources/pull.h"
#include "formats/source.h"
#include "library/held_bytes.h"
#include "library/pull_job.h"
#include "library/puller.h"
#include "models/report.h"
#include "names/names.h"

namespace hearth::app {
namespace {

constexpr std::uint32_t kConnections = 4;  // PullFlags' own

Result<library::Network> network_of(PullFlags const& flags) {
    HEARTH_TRY(auto network, network_settings());
    network.download.connections = flags.connections;
    if (flags.insecure) network.client.plain_http = fetch::PlainHttp::anywhere;
    if (!flags.limit_rate.empty()) {
        HEARTH_TRY(network.client.bytes_per_second, parse_size(flags.limit_rate, "--limit-rate"));
    }
    return network;
}

std::string catalog_path(std::string const& data_dir) {
    auto const folder = data_folder(data_dir);
    return folder.empty() ? std::string() : folder + "/catalog.db";
}

// As it was recorded last, whoever writes it; null where there is none.
std::unique_ptr<catalog::Catalog> last_record(std::string const& data_dir) {
    auto const path = catalog_path(data_dir);
    if (path.empty()) return nullptr;
    auto opened = catalog::Catalog::open(path, catalog::Access::read_only);
    return opened ? *std::move(opened) : nullptr;
}

// What came, and the name it was asked for by, where this process may write that down: by its file's
// name it is found anyway.
void remember(library::PullWish const& wish, fetch::Pulled const& pulled, std::string const& folder,
              std::string const& data_dir) {
    auto const path = catalog_path(data_dir);
    if (path.empty()) return;
    auto const write_down = [&]() -> Status {
        HEARTH_TRY(auto const catalog, catalog::Catalog::open(path, catalog::Access::read_write));
        HEARTH_TRY(auto const scanned, catalog->scan(models_folders({folder}, data_dir)));
        static_cast<void>(scanned);
        return library::name_pulled(*catalog, wish, pulled);
    };
    if (auto const done = write_down(); !done && library::is_named_otherwise(wish, pulled))
        fmt::print(stderr, "hearth: the name '{}' is not remembered, the model is called '{}': {}\n", wish.model,
                   pulled.model, done.error().message);
}

Result<fetch::Pulled> pull_here(PullFlags const& flags, library::PullTarget target, std::string folder) {
    HEARTH_TRY(auto network, network_of(flags));
    SteadyClock const clock;
    auto display = display_on_stderr();
    library::Puller::Events events;
    events.planned = [&](fetch::Plan const& plan) {
        std::vector<std::string> names;
        names.reserve(plan.files.size());
        for (auto const& file : plan.files) names.push_back(file.name);
        display.begin(std::move(names));
    };
    events.progress = [&](std::size_t file, fetch::FileProgress const& progress) {
        show_on_stderr(display.update(file, progress, clock.now()));
    };
    auto const catalog = last_record(flags.data_dir);
    library::HeldBytes held([&](std::string const& sha256) {
        auto paths = catalog ? catalog->files_with(sha256) : std::vector<std::string>();
        return paths ? *std::move(paths) : std::vector<std::string>();
    });
    bool const copies = std::holds_alternative<fetch::LocalReference>(target.reference);
    library::PullOrder order{std::move(target.reference), std::move(target.rename), std::move(folder),
                             std::move(target.sha256), &held};
    library::Puller puller(std::move(network), std::move(order), std::move(events));
    // Where files of this machine are copied nobody would hear of it: there a signal ends the process.
    if (!copies) puller.loop().on_signals({SIGINT, SIGTERM}, [&](int) { puller.stop(); });
    auto pulled = puller.run();
    show_on_stderr(display.finish(clock.now()));
    return pulled;
}

std::string to_json(fetch::Pulled const& pulled, std::string const& folder) {
    auto files = nlohmann::ordered_json::array();
    for (auto const& file : pulled.files) {
        nlohmann::ordered_json const entry = {
            {"path", file.path}, {"size", file.size}, {"sha256", file.sha256}, {"present", file.present}};
        files.push_back(entry);
    }
    nlohmann::ordered_json const root = {{"model", pulled.model},           {"source", pulled.source},
                                         {"revision", pulled.revision},     {"folder", folder},
                                         {"fetched_bytes", pulled.fetched}, {"files", files}};
    return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

bool names_a_file(PullFlags const& flags) {
    auto const reference = fetch::parse_reference(flags.source.empty() ? flags.name : flags.source);
    return reference && std::holds_alternative<fetch::LocalReference>(*reference);
}

// The file, or the folder of safetensors, that was pulled.
std::string opened_of(fetch::Pulled const& pulled) {
    std::filesystem::path const first(pulled.files.front().path);
    return first.filename() == "config.json" ? first.parent_path().string() : first.string();
}

// Whole is not yet good: what Hearth would refuse to load is said now.
int check_pulled(fetch::Pulled const& pulled) {
    auto const first = opened_of(pulled);
    if (formats::is_folder(first)) {
        auto const counted = formats::count_parameters(first);
        if (!counted) fmt::print(stderr, "hearth: {}\n", counted.error().message);
        return counted ? kExitOk : kExitError;
    }
    auto const checked = models::check_model(first);
    for (auto const& problem : checked.problems) fmt::print(stderr, "hearth: {}: {}\n", first, problem);
    if (!checked.valid) fmt::print(stderr, "hearth: the file is as its source has it, but it cannot be served\n");
    return checked.valid ? kExitOk : kExitError;
}

// ORG/REPO alone may be a path that was mistyped: nobody is asked for it unless they say so.
bool names_its_host(std::string const& name) {
    auto const first = name.substr(0, name.find('/'));
    return name.find('/') != std::string::npos && first.find_first_of(".:[") != std::string::npos &&
           !name.starts_with('.');
}

// The file of a model that was pulled by that name, and is there.
std::optional<std::string> file_pulled_as(std::string const& name) {
    auto const catalog = last_record({});
    if (!catalog) return std::nullopt;
    auto const model = catalog->find(name);
    bool const pulled = model && std::ranges::any_of(model->pulled, [&](auto const& alias) {
                            return names::is_same_name(alias, name);
                        });
    std::error_code failed;
    if (!pulled || !std::filesystem::is_regular_file(model->files.front().path, failed)) return std::nullopt;
    return catalog::served_from(model->files);
}

}  // namespace

Result<std::optional<std::string>> pull_to_run(RunFlags const& flags) {
    auto const& name = flags.model;
    if (auto file = file_pulled_as(name)) return file;
    HEARTH_TRY(auto const known, known_models(flags.known_models, {}));
    bool const listed =
        std::ranges::any_of(known, [&](auto const& each) { return names::is_same_name(each.name, name); });
    auto const folders = models_folders(flags.models_dirs);
    if (folders.empty() || (!listed && !names_its_host(name))) return std::optional<std::string>();
    library::PullWish wish;
    wish.model = name;
    HEARTH_TRY(auto target, library::resolve_wish(wish, known));
    fmt::print(stderr, "hearth: '{}' is not here yet; pulling {}\n", name, fetch::to_string(target.reference));
    HEARTH_TRY(auto const pulled, pull_here({}, std::move(target), folders.front()));
    remember(wish, pulled, folders.front(), {});
    return std::optional(opened_of(pulled));
}

int pull(PullFlags const& flags) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves shows as a failed write
    std::signal(SIGXFSZ, SIG_IGN);  // and so does a limit on file sizes
    bool const local_options = !flags.models_dir.empty() || !flags.data_dir.empty() || !flags.known_models.empty() ||
                               flags.connections != kConnections;
    auto const server = server_for(flags.host, local_options || names_a_file(flags));
    if (!server) return report_client(server.error());
    if (*server) return pull_by(**server, flags);
    auto const known = known_models(flags.known_models, flags.data_dir);
    if (!known) return report(known.error());
    library::PullWish wish;
    wish.model = flags.name;
    wish.source = flags.source;
    auto target = library::resolve_wish(wish, *known);
    if (!target) return report(target.error());
    auto folder = flags.models_dir;
    if (folder.empty()) {
        auto const folders = models_folders({}, flags.data_dir);
        if (folders.empty())
            return report(Error(Code::invalid_argument, "there is no models folder: give --models-dir"));
        folder = folders.front();
    }
    auto const pulled = pull_here(flags, *std::move(target), folder);
    if (!pulled) {
        int const code = report_client(pulled.error());
        if (pulled.error().code == Code::cancelled)
            fmt::print(stderr, "hearth: what was fetched is kept; the same command goes on from there\n");
        return code;
    }
    remember(wish, *pulled, folder, flags.data_dir);
    int const verdict = check_pulled(*pulled);
    auto const text =
        flags.json ? to_json(*pulled, folder) : fmt::format("{} is in {}\n", pulled->model, opened_of(*pulled));
    if (int const written = write_out(text); written != kExitOk) return written;
    return verdict;
}

}  // namespace hearth::app
