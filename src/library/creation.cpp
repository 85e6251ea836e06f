#include "library/creation.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/ascii.h"
#include "digest/sha256.h"
#include "fetch/sources/reference.h"
#include "library/copies.h"
#include "library/disk.h"
#include "models/adapter.h"
#include "models/gguf.h"
#include "models/report.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

using Files = std::vector<std::pair<std::string, std::string>>;

bool ends(std::string const& name, std::string_view suffix) { return ascii_lower(name).ends_with(suffix); }

bool is_plain(std::string const& type) {
    constexpr std::array<std::string_view, 3> kPlain{"F32", "F16", "BF16"};
    return std::ranges::find(kPlain, type) != kPlain.end();
}

// FILE, or FOLDER/FILE: some models have a part's config in a folder of its own.
bool stays_inside(std::string const& name) {
    auto const slash = name.find('/');
    if (slash == std::string::npos) return fetch::is_file_name(name);
    return fetch::is_file_name(name.substr(0, slash)) && fetch::is_file_name(name.substr(slash + 1));
}

// All of them can lie in one folder, each under its name.
Status check_places(Files const& files) {
    std::set<std::string_view> names;
    for (auto const& [name, digest] : files)
        if (!names.insert(name).second)
            return Error(Code::invalid_argument, fmt::format("two files are called '{}'", name), "files");
    for (auto const& [name, digest] : files) {
        auto const folder = std::string_view(name).substr(0, name.find('/'));
        if (folder.size() < name.size() && names.contains(folder))
            return Error(Code::invalid_argument,
                         fmt::format("'{}' is a file, and '{}' needs it as a folder", folder, name), "files");
    }
    return ok();
}

Status check_names(Files const& files) {
    if (files.size() > kCreateFilesMax)
        return Error(Code::invalid_argument,
                     fmt::format("a model of {} files, the limit is {}", files.size(), kCreateFilesMax), "files");
    for (auto const& [name, digest] : files) {
        if (!stays_inside(name))
            return Error(
                Code::invalid_argument,
                fmt::format("'{}' is no name for a file of a model: FILE or FOLDER/FILE, no dot in front", name),
                "files");
        HEARTH_TRY(auto const hex, parse_digest(digest));
        static_cast<void>(hex);
    }
    return check_places(files);
}

struct Staged {
    std::string path;  // a folder, or the first file
    bool folder = false;
};

// Which of the files is to be opened, all of them being where they belong.
Result<Staged> first_of(Files const& files, std::string const& folder) {
    auto const count = [&](std::string_view suffix) {
        return static_cast<std::size_t>(
            std::ranges::count_if(files, [&](auto const& file) { return ends(file.first, suffix); }));
    };
    if (count(".safetensors") > 0) return Staged{folder, true};
    auto const& first = files.front().first;
    if (files.size() == 1) return Staged{folder + "/" + (ends(first, ".gguf") ? first : first + ".gguf"), false};
    auto const split = models::parse_split_name(first);
    if (count(".gguf") != files.size() || !split || split->count != files.size())
        return Error(Code::invalid_argument,
                     "the files are no model: it is one GGUF file, all files of a split one, or *.safetensors with "
                     "config.json and the tokenizer's files",
                     "files");
    return Staged{models::split_path(folder + "/" + split->prefix, 1, split->count), false};
}

// What was uploaded, or else is a model's here, as a link.
Status put(std::string const& digest, std::string const& path, BlobStore const& blobs, KnownFiles const& known) {
    HEARTH_TRY(auto const hex, parse_digest(digest));
    auto const there = known.find(hex);
    if (blobs.has(hex) || there == known.end()) return blobs.link(hex, path);
    std::error_code failed;
    // The file itself: a link's own text would lead elsewhere from there.
    auto const real = fs::canonical(there->second, failed);
    if (!failed) fs::create_hard_link(real, path, failed);
    if (failed) fs::create_symlink(real, path, failed);  // another file system
    return failed ? Status(Error(Code::io, fmt::format("cannot link '{}': {}", path, failed.message()))) : ok();
}

Result<Staged> stage(Files const& files, std::string const& folder, BlobStore const& blobs, KnownFiles const& known) {
    HEARTH_TRY(auto staged, first_of(files, folder));
    for (auto const& [name, digest] : files) {
        std::error_code failed;
        auto const path = fs::path(folder) / name;
        if (name.find('/') != std::string::npos) fs::create_directory(path.parent_path(), failed);
        bool const bare = !staged.folder && !ends(name, ".gguf");
        HEARTH_CHECK(put(digest, path.string().append(bare ? ".gguf" : ""), blobs, known));
    }
    return staged;
}

Error of_files(Error error, std::string const& folder) {
    error = without_folder(std::move(error), folder);
    error.param = "files";
    return error;
}

// Of the files of a model in their order: by the names of a split one that is how they are sorted.
Result<std::vector<std::string>> sha256s_of(Files files) {
    std::ranges::sort(files);
    std::vector<std::string> out;
    for (auto const& [name, digest] : files) {
        HEARTH_TRY(auto hex, parse_digest(digest));
        out.push_back(std::move(hex));
    }
    return out;
}

// Where it cannot be linked it is copied here, not where all models are kept in order.
Status bring(Weights& weights, WeightsOrder const& order, std::function<bool()> const& stopped) {
    HEARTH_TRY(auto files, files_at(weights.files.path));
    HEARTH_TRY(bool const needed, need_copies(files, order.models_folder));
    if (!needed) return ok();
    auto const folder = fs::path(weights.files.path).parent_path().string();
    auto const watch = [&](std::uint64_t, std::uint64_t) { return !stopped(); };
    auto copies = make_copies(std::move(files), order.models_folder, {}, watch);
    if (!copies) return without_folder(std::move(copies).error(), folder);
    weights.files.path = std::move(copies->path);
    weights.folders.push_back(std::move(copies->folder));
    return ok();
}

// One adapter: a GGUF file, or what PEFT saves, whose names then are those in its folder.
struct Adapter {
    std::string folder;  // that its names had in front
    bool of_peft = false;
    Files files;
};

// Files that belong together are one, in the order in which the first of each is named.
Result<std::vector<Adapter>> group_adapters(Files const& files) {
    std::vector<Adapter> adapters;
    for (auto const& [name, digest] : files) {
        bool const of_peft = ends(name, ".safetensors") || ends(name, ".json");
        if (of_peft && !stays_inside(name))
            return Error(Code::invalid_argument,
                         fmt::format("'{}' is no name for a file of an adapter: FILE or FOLDER/FILE", name));
        auto const slash = name.find('/');
        auto const folder = slash == std::string::npos ? std::string() : name.substr(0, slash);
        auto const base = slash == std::string::npos ? name : name.substr(slash + 1);
        auto const same = std::ranges::find_if(
            adapters, [&](Adapter const& each) { return of_peft && each.of_peft && each.folder == folder; });
        auto& adapter = same != adapters.end() ? *same : adapters.emplace_back(folder, of_peft, Files{});
        adapter.files.emplace_back(base, digest);
    }
    if (adapters.size() <= modelfile::kAdaptersMax) return adapters;
    return Error(Code::invalid_argument,
                 fmt::format("a model with {} adapters, the limit is {}", adapters.size(), modelfile::kAdaptersMax));
}

// Where an adapter gets its file, and for which model.
struct AdapterPlace {
    std::string path, base;
};

Status stage_adapter(Adapter const& adapter, AdapterPlace const& place, WeightsOrder const& order,
                     BlobStore const& blobs, MakeFile const& make, std::function<bool()> const& stopped) {
    auto const folder = place.path + ".folder";
    if (adapter.of_peft) {
        std::error_code failed;
        fs::create_directory(folder, failed);
    }
    for (auto const& [name, digest] : adapter.files)
        HEARTH_CHECK(
            put(digest, adapter.of_peft ? (fs::path(folder) / name).string() : place.path, blobs, order.known));
    if (adapter.of_peft && !make) return Error(Code::unsupported, "this process converts no adapters");
    if (adapter.of_peft)
        HEARTH_CHECK(make({.source = folder, .output = place.path, .form = {}, .base = place.base},
                          [&](MakeProgress const&) { return !stopped(); }));
    HEARTH_TRY(auto const file, models::read_adapter(place.path));
    static_cast<void>(file);
    return ok();
}

// `folder` is where they lie; empty: nowhere yet.
Error of_adapters(Error error, std::string const& folder) {
    if (!folder.empty()) error = of_files(std::move(error), folder);
    error.message.insert(0, "adapters: ");
    error.param = "adapters";
    return error;
}

// How Ollama calls it.
std::string quantizing(std::string const& type, std::string const& form) {
    auto const shown = is_plain(type) ? type + " " : std::string();
    return fmt::format("quantizing {}model to {}", shown, form);
}

}  // namespace

void Creation::say(CreateStep step) {
    bool const same = !news_.empty() && news_.back().text == step.text;
    if (same) news_.back() = std::move(step);
    else news_.push_back(std::move(step));
    changed_.notify();
}

void Creation::finish(Result<catalog::Created> result) {
    result_ = std::move(result);
    changed_.notify();
}

void Creation::report(std::shared_ptr<Creation> const& creation, CreateStep step) {
    bool const way = step.total > 0 && step.done < step.total;
    if (way && creation->told_.exchange(true)) return;
    creation->loop_.post([creation, step = std::move(step), way] {
        if (way) creation->told_ = false;
        creation->say(step);
    });
}

Result<Weights> make_weights(WeightsOrder const& order, BlobStore const& blobs, MakeFile const& make,
                             std::function<void(CreateStep)> const& say, std::function<bool()> const& stopped) {
    Weights weights;
    Staged source{order.from, order.folder};
    if (!order.files.empty()) {
        HEARTH_CHECK(check_names(order.files));
        HEARTH_TRY(auto folder, StagingFolder::create(blobs.folder()));
        // What is converted is named after its folder.
        auto const inside = folder.path() + "/model";
        std::error_code failed;
        fs::create_directory(inside, failed);
        HEARTH_TRY(source, stage(order.files, inside, blobs, order.known));
        weights.folders.push_back(std::move(folder));
    }
    std::string type;
    if (!source.folder) {
        if (!order.files.empty()) say({"parsing GGUF"});
        auto const report = models::check_model(source.path);
        if (!report.problems.empty())
            return Error(Code::corrupt, fmt::format("no model that can be served: {}", report.problems.front()),
                         "files");
        type = report.quantization;
        if (!order.quantize.empty() && !is_plain(type))
            return Error(
                Code::invalid_argument,
                fmt::format("quantization is only supported for F16, F32 and BF16 models, this one is {}", type),
                "quantize");
        for (auto const& [name, digest] : order.files) say({"using existing layer " + digest});
    }
    weights.files.path = source.path;
    if (!source.folder && order.quantize.empty()) {
        HEARTH_TRY(weights.files.sha256s, sha256s_of(order.files));
        if (!order.files.empty()) HEARTH_CHECK(bring(weights, order, stopped));
        return weights;
    }
    if (!make) return Error(Code::unsupported, "this process converts and quantises no models", "files");
    HEARTH_TRY(auto folder, StagingFolder::create(order.models_folder));
    auto const& made_path = weights.files.path = folder.path() + "/model.gguf";
    weights.folders.push_back(std::move(folder));
    if (source.folder) say({"converting model"});
    auto const made = make({source.path, made_path, order.quantize}, [&](MakeProgress const& progress) {
        if (progress.quantizing) say({quantizing(type, order.quantize), progress.done, progress.total});
        return !stopped();
    });
    if (!made)
        return of_files(made.error(), source.folder ? source.path : fs::path(source.path).parent_path().string());
    HEARTH_TRY(auto sha256, digest::sha256_of_file(made_path, stopped));
    weights.files.sha256s = {std::move(sha256)};
    return weights;
}

Error about_adapters(Error error, Weights const& weights) {
    auto const folder = fs::path(weights.adapters.front()).parent_path().string();
    return of_adapters(std::move(error), folder);
}

Status add_adapters(Weights& weights, WeightsOrder const& order, BlobStore const& blobs, MakeFile const& make,
                    std::function<bool()> const& stopped) {
    if (order.adapters.empty()) return ok();
    auto const adapters = group_adapters(order.adapters);
    if (!adapters) return of_adapters(adapters.error(), "");
    HEARTH_TRY(auto folder, StagingFolder::create(blobs.folder()));
    auto const base = weights.files.path.empty() ? order.from : weights.files.path;
    for (auto const& adapter : *adapters) {
        auto path = fmt::format("{}/adapter-{}.gguf", folder.path(), weights.adapters.size() + 1);
        auto const staged = stage_adapter(adapter, {path, base}, order, blobs, make, stopped);
        if (!staged) return of_adapters(staged.error(), folder.path());
        weights.adapters.push_back(std::move(path));
    }
    weights.folders.push_back(std::move(folder));
    return ok();
}

}  // namespace hearth::library
