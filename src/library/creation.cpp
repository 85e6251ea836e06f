#include "library/creation.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/ascii.h"
#include "fetch/sources/reference.h"
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
    return ok();
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

Result<Staged> stage(Files const& files, std::string const& folder, BlobStore const& blobs) {
    HEARTH_TRY(auto staged, first_of(files, folder));
    for (auto const& [name, digest] : files) {
        HEARTH_TRY(auto const hex, parse_digest(digest));
        std::error_code failed;
        auto const path = fs::path(folder) / name;
        if (name.find('/') != std::string::npos) fs::create_directory(path.parent_path(), failed);
        bool const bare = !staged.folder && !ends(name, ".gguf");
        HEARTH_CHECK(blobs.link(hex, path.string().append(bare ? ".gguf" : "")));
    }
    return staged;
}

// Where files are while a model is made of them is nobody's business.
Error of_files(Error error, std::string const& folder) {
    for (auto at = error.message.find(folder); at != std::string::npos; at = error.message.find(folder, at))
        error.message.replace(at, std::min(folder.size() + 1, error.message.size() - at), "");
    error.param = "files";
    return error;
}

Status stage_adapter(std::string const& digest, std::string const& path, BlobStore const& blobs) {
    HEARTH_TRY(auto const hex, parse_digest(digest));
    HEARTH_CHECK(blobs.link(hex, path));
    HEARTH_TRY(auto const file, models::read_adapter(path));
    static_cast<void>(file);
    return ok();
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
    Staged source{order.from, false};
    if (!order.files.empty()) {
        HEARTH_CHECK(check_names(order.files));
        HEARTH_TRY(auto folder, StagingFolder::create(blobs.folder()));
        // What is converted is named after its folder.
        auto const inside = folder.path() + "/model";
        std::error_code failed;
        fs::create_directory(inside, failed);
        HEARTH_TRY(source, stage(order.files, inside, blobs));
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
    weights.path = source.path;
    if (!source.folder && order.quantize.empty()) return weights;
    if (!make) return Error(Code::unsupported, "this process converts and quantises no models", "files");
    HEARTH_TRY(auto folder, StagingFolder::create(order.models_folder));
    weights.path = folder.path() + "/model.gguf";
    weights.folders.push_back(std::move(folder));
    if (source.folder) say({"converting model"});
    auto const made = make({source.path, weights.path, order.quantize}, [&](MakeProgress const& progress) {
        if (progress.quantizing) say({quantizing(type, order.quantize), progress.done, progress.total});
        return !stopped();
    });
    if (!made)
        return of_files(made.error(), source.folder ? source.path : fs::path(source.path).parent_path().string());
    return weights;
}

Error about_adapters(Error error, std::string const& folder) {
    error = of_files(std::move(error), folder);
    error.message.insert(0, "adapters: ");
    error.param = "adapters";
    return error;
}

Result<StagedAdapters> stage_adapters(Files const& adapters, BlobStore const& blobs) {
    if (adapters.size() > modelfile::kAdaptersMax)
        return Error(Code::invalid_argument,
                     fmt::format("a model with {} adapters, the limit is {}", adapters.size(), modelfile::kAdaptersMax),
                     "adapters");
    HEARTH_TRY(auto folder, StagingFolder::create(blobs.folder()));
    StagedAdapters out{std::move(folder), {}};
    for (auto const& [name, digest] : adapters) {
        auto path = fmt::format("{}/adapter-{}.gguf", out.folder.path(), out.paths.size() + 1);
        auto const staged = stage_adapter(digest, path, blobs);
        if (!staged) return about_adapters(staged.error(), out.folder.path());
        out.paths.push_back(std::move(path));
    }
    return out;
}

}  // namespace hearth::library
