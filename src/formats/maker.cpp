#include "formats/maker.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "convert/adapter.h"
#include "convert/convert.h"
#include "formats/maker_lines.h"
#include "llama/quantize.h"
#include "models/gguf.h"
#include "sandbox/sandbox.h"

namespace hearth::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLinksMax = 4096;  // of files in a source's folder
constexpr auto kReportEvery = std::chrono::milliseconds(50);
// What opens files at once: shards of a model, and a few of the system's.
constexpr std::uint64_t kOpenFilesMax = 1088;

// A line that nobody takes: whoever started this is gone, so is its reason.
void report(MakerLine const& line) {
    auto const text = render_line(line);
    for (std::size_t done = 0; done < text.size();) {
        auto const count = ::write(kReportFd, text.data() + done, text.size() - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) ::_exit(1);
        done += static_cast<std::size_t>(count);
    }
}

// Progress is for people: a few lines a second.
class Pace {
public:
    bool now() {
        auto const time = std::chrono::steady_clock::now();
        if (time - last_ < kReportEvery) return false;
        last_ = time;
        return true;
    }

private:
    std::chrono::steady_clock::time_point last_;
};

// The folder, and what links in it lead to, as a hub's cache has them.
std::vector<std::string> readable_of_folder(std::string const& folder) {
    std::vector<std::string> paths{folder};
    std::error_code failed;
    std::size_t seen = 0;
    for (fs::recursive_directory_iterator entry(folder, failed), end; !failed && entry != end && seen < kLinksMax;
         entry.increment(failed), ++seen) {
        std::error_code broken;
        if (!entry->is_symlink(broken)) continue;
        auto const target = fs::canonical(entry->path(), broken);
        if (!broken && fs::is_regular_file(target, broken)) paths.push_back(target.string());
    }
    return paths;
}

std::vector<std::string> readable_of_model(std::string const& path) {
    auto const split = models::parse_split_name(path);
    if (!split) return {path};
    std::vector<std::string> paths;
    for (std::uint32_t number = 1; number <= split->count && number <= models::kGgufSplitsMax; ++number) {
        auto part = models::split_path(split->prefix, number, split->count);
        if (::access(part.c_str(), R_OK) == 0) paths.push_back(std::move(part));
    }
    return paths;
}

// As upstream's quantiser spells types.
std::string type_name(std::string name) {
    for (auto& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    return name;
}

Status run_convert(MakerTask const& task) {
    auto const planned = [](convert::Report const& plan) {
        report(PlanLine{plan.architecture, type_name(plan.type), plan.tensors, plan.parameters, plan.file_bytes});
        return ok();
    };
    Pace pace;
    auto const watch = [&](convert::Progress const& progress) {
        if (pace.now()) report(AtLine{progress.tensors_done, progress.tensors, progress.bytes_done, progress.bytes});
        return true;
    };
    auto const type = convert::element_type_named(task.type);
    if (!task.base.empty()) {
        HEARTH_CHECK(convert::convert_adapter(
            {.folder = task.source, .base = task.base, .output = kOutputFd, .type = type}, planned, watch));
        return ok();
    }
    HEARTH_CHECK(convert::convert({.folder = task.source, .output = kOutputFd, .type = type}, planned, watch));
    return ok();
}

// Bytes of every tensor, by its name: the quantiser tells names only.
using TensorBytes = std::map<std::string, std::uint64_t, std::less<>>;

Status run_quantize(MakerTask const& task) {
    HEARTH_TRY(auto const files, models::read_gguf_model(task.source));
    PlanLine plan{.architecture = files.front().text("general.architecture"), .type = {}};
    for (auto const& type : llama::quantized_types()) {
        if (type.file_type == task.file_type) plan.type = type.name;
    }
    if (plan.type.empty())
        return Error(Code::invalid_argument, fmt::format("file type {} is not made", task.file_type));
    TensorBytes bytes;
    AtLine at;
    for (auto const& file : files) {
        for (auto const& tensor : file.tensors) {
            std::uint64_t elements = 1;
            for (auto const dimension : tensor.dimensions) elements *= dimension;
            plan.parameters += elements;
            at.bytes += tensor.bytes;
            bytes.emplace(tensor.name, tensor.bytes);
        }
    }
    plan.tensors = at.tensors = bytes.size();
    report(plan);

    llama::QuantizeOptions options;
    options.input = files.front().path;
    options.output = task.output;
    options.file_type = task.file_type;
    options.threads = task.threads;
    options.progress = [&](llama::QuantizeProgress const& progress) {
        auto const tensor = bytes.find(progress.tensor);
        if (tensor == bytes.end()) return;
        at.bytes_done += tensor->second;
        ++at.tensors_done;
        bytes.erase(tensor);
        report(at);
    };
    return llama::quantize(options);
}

Result<std::string> confine(MakerTask const& task) {
    bool const converting = !task.type.empty();
    sandbox::Policy policy;
    policy.readable = converting ? readable_of_folder(task.source) : readable_of_model(task.source);
    if (!task.base.empty()) {
        auto const base = readable_of_model(task.base);
        policy.readable.insert(policy.readable.end(), base.begin(), base.end());
    }
    policy.keep_fds = converting ? std::vector<int>{kReportFd, kOutputFd} : std::vector<int>{kReportFd};
    if (!converting) policy.rewritable = task.output;
    policy.open_files_max = kOpenFilesMax;
    HEARTH_TRY(auto entered, sandbox::enter(policy));
    return std::move(entered.description);
}

Result<std::string> carry_out(MakerTask const& task) {
    HEARTH_TRY(auto isolation, confine(task));
    HEARTH_CHECK(task.type.empty() ? run_quantize(task) : run_convert(task));
    return isolation;
}

}  // namespace

std::vector<std::string> maker_arguments(MakerTask const& task) {
    if (!task.base.empty()) return {"convert", task.source, task.type, task.base};
    if (!task.type.empty()) return {"convert", task.source, task.type};
    return {"quantize", task.source, task.output, std::to_string(task.file_type), std::to_string(task.threads)};
}

Result<MakerTask> parse_maker_arguments(std::vector<std::string> const& arguments) {
    auto const number = [](std::string const& text, std::uint32_t& value) {
        auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
        return failed == std::errc{} && end == text.data() + text.size();
    };
    MakerTask task;
    bool const with_base = arguments.size() == 4 && !arguments.back().empty();
    if ((arguments.size() == 3 || with_base) && arguments[0] == "convert" && !arguments[2].empty()) {
        task.source = arguments[1];
        task.type = arguments[2];
        if (with_base) task.base = arguments[3];
        return task;
    }
    if (arguments.size() == 5 && arguments[0] == "quantize" && number(arguments[3], task.file_type) &&
        number(arguments[4], task.threads)) {
        task.source = arguments[1];
        task.output = arguments[2];
        return task;
    }
    return Error(Code::invalid_argument, "`hearth maker` is started by other commands, not by hand");
}

int run_maker(MakerTask const& task) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int const number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
    auto const isolation = carry_out(task);
    if (!isolation) {
        report(isolation.error());
        return 1;
    }
    report(DoneLine{*isolation});
    return 0;
}

}  // namespace hearth::formats
