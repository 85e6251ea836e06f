#include "formats/make.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/ascii.h"
#include "formats/maker.h"
#include "formats/maker_lines.h"
#include "formats/source.h"
#include "models/gguf.h"
#include "models/report.h"
#include "names/names.h"

namespace hearth::formats {
namespace {

namespace fs = std::filesystem;

constexpr int kPollMs = 100;     // how late `watch` may be asked
constexpr int kDescriptorMin = 16;  // above those a maker is given

class Descriptor {
public:
    explicit Descriptor(int fd = -1) : fd_(fd) {}
    ~Descriptor() { close(); }
    Descriptor(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor const&) = delete;
    [[nodiscard]] int get() const { return fd_; }
    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }

private:
    int fd_;
};

// One maker, from its start to its end; dropped before that, it is killed.
class Process {
public:
    static Result<std::unique_ptr<Process>> start(Workshop const& workshop, MakerTask const& task, int output) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return failure("no pipe");
        auto process = std::make_unique<Process>(ends[0]);
        Descriptor const writing(ends[1]);
        // Out of the way of the numbers they get in the maker.
        Descriptor const report(::fcntl(ends[1], F_DUPFD_CLOEXEC, kDescriptorMin));
        Descriptor const file(output < 0 ? -1 : ::fcntl(output, F_DUPFD_CLOEXEC, kDescriptorMin));
        if (report.get() < 0 || (output >= 0 && file.get() < 0)) return failure("no descriptors are left");
        if (int const error = process->spawn(workshop, task, report.get(), file.get()); error != 0) {
            errno = error;
            return failure(workshop.executable);
        }
        return process;
    }

    explicit Process(int reading) : pipe_(reading) {}
    ~Process() {
        if (pid_ <= 0) return;
        ::kill(-pid_, SIGKILL);  // a group of its own, see spawn()
        wait();
    }
    Process(Process const&) = delete;
    Process& operator=(Process const&) = delete;

    // The next line; nothing yet when `kPollMs` have passed or a signal came; an
    // empty text, which no line is, at the end.
    Result<std::optional<std::string>> line() {
        if (auto const end = buffer_.find('\n'); end != std::string::npos) {
            auto line = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            return std::optional(std::move(line));
        }
        if (buffer_.size() >= kLineMax) return Error(Code::corrupt, "the maker process said a line without end");
        pollfd ready{pipe_.get(), POLLIN, 0};
        if (::poll(&ready, 1, kPollMs) <= 0) return std::optional<std::string>();
        std::array<char, kLineMax> piece{};
        auto const count = ::read(pipe_.get(), piece.data(), piece.size());
        if (count < 0 && errno == EINTR) return std::optional<std::string>();
        if (count < 0) return failure("its pipe cannot be read");
        if (count == 0) return std::optional(std::string());
        buffer_.append(piece.data(), static_cast<std::size_t>(count));
        return std::optional<std::string>();
    }

    // How it ended, in words. Blocks until it has.
    std::string wait() {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
        pid_ = -1;
        if (WIFSIGNALED(status)) return fmt::format("signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
        return fmt::format("exit status {}", WEXITSTATUS(status));
    }

private:
    static Error failure(std::string_view what) {
        return Error(Code::io, fmt::format("cannot start a maker process: {}: {}", what, std::strerror(errno)));
    }

    int spawn(Workshop const& workshop, MakerTask const& task, int report, int output) {
        std::vector<std::string> arguments{workshop.executable, "maker"};
        for (auto& argument : maker_arguments(task)) arguments.push_back(std::move(argument));
        auto environment = workshop.environment;
        auto const pointers = [](std::vector<std::string>& strings) {
            std::vector<char*> out;
            out.reserve(strings.size() + 1);
            for (auto& text : strings) out.push_back(text.data());
            out.push_back(nullptr);
            return out;
        };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawnattr_init(&attributes);
        int problem = 0;
        auto const keep = [&](int result) { problem = problem != 0 ? problem : result; };
        keep(::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
        keep(::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0));
        keep(::posix_spawn_file_actions_adddup2(&actions, report, kReportFd));
        if (output >= 0) keep(::posix_spawn_file_actions_adddup2(&actions, output, kOutputFd));
        keep(::posix_spawn_file_actions_addclosefrom_np(&actions, output >= 0 ? kOutputFd + 1 : kReportFd + 1));
        sigset_t none;
        sigset_t all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        keep(::posix_spawnattr_setsigmask(&attributes, &none));
        keep(::posix_spawnattr_setsigdefault(&attributes, &all));
        keep(::posix_spawnattr_setpgroup(&attributes, 0));  // a terminal's Ctrl-C is for who started it
        keep(::posix_spawnattr_setflags(&attributes,
                                        POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP));
        pid_t pid = -1;
        if (problem == 0) {
            auto argv = pointers(arguments);
            auto envp = pointers(environment);
            problem = ::posix_spawn(&pid, workshop.executable.c_str(), &actions, &attributes, argv.data(), envp.data());
        }
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
        if (problem == 0) pid_ = pid;
        return problem;
    }

    Descriptor pipe_;
    std::string buffer_;
    pid_t pid_ = -1;
};

using OnPlan = std::function<Status(PlanLine const&)>;

// One maker's whole run: what it planned, and its sandbox.
class Run {
public:
    Run(Stage stage, OnPlan on_plan, Watch const& watch) : on_plan_(std::move(on_plan)), watch_(watch) {
        progress_.stage = stage;
    }

    Result<PlanLine> carry_out(Workshop const& workshop, MakerTask const& task, int output) {
        HEARTH_TRY(auto const process, Process::start(workshop, task, output));
        for (;;) {
            HEARTH_TRY(auto const line, process->line());
            if (line && line->empty()) break;
            if (line) {
                HEARTH_TRY(auto const said, parse_line(*line));
                HEARTH_CHECK(std::visit([this](auto const& what) { return this->take(what); }, said));
            }
            if (watch_ && !watch_(progress_)) return Error(Code::cancelled, "making the file was stopped");
        }
        auto const end = process->wait();
        if (plan_ && done_) return std::move(*plan_);
        return Error(Code::internal, fmt::format("the maker process ended before it was done: {}", end));
    }

    [[nodiscard]] std::string const& isolation() const { return isolation_; }

private:
    Status take(PlanLine const& plan) {
        if (plan_ || done_) return Error(Code::corrupt, "the maker process said twice what it plans");
        plan_ = plan;
        return on_plan_(plan);
    }
    Status take(AtLine const& at) {
        progress_.tensors_done = at.tensors_done;
        progress_.tensors = at.tensors;
        progress_.bytes_done = at.bytes_done;
        progress_.bytes = at.bytes;
        return ok();
    }
    Status take(DoneLine const& done) {
        done_ = true;
        isolation_ = done.isolation;
        return ok();
    }
    static Status take(Error const& error) { return error; }

    OnPlan const on_plan_;
    Watch const& watch_;
    Progress progress_;
    std::optional<PlanLine> plan_;
    bool done_ = false;
    std::string isolation_;
};

bool is_plain(Form const& form) {
    return form.as_source() || form.type == "F32" || form.type == "F16" || form.type == "BF16";
}

// What a file is called whose name nobody gave: after its source.
std::string base_name(std::string const& source) {
    if (!is_folder(source)) return names::to_file_stem(models::model_id(source));
    std::error_code failed;
    auto const path = fs::canonical(source, failed);
    return failed || path.filename().empty() ? std::string("model") : path.filename().string();
}

Made made_of(PlanLine plan, Run const& run) {
    return {.output = {},
            .architecture = std::move(plan.architecture),
            .type = std::move(plan.type),
            .tensors = plan.tensors,
            .parameters = plan.parameters,
            .file_bytes = 0,
            .isolation = run.isolation()};
}

Result<Made> convert_into(WholeFile& output, Order const& order, Workshop const& workshop, Watch const& watch) {
    auto const planned = [&](PlanLine const& plan) -> Status {
        if (order.output.empty())
            HEARTH_CHECK(
                output.rename_target(fmt::format("{}-{}.gguf", base_name(order.source), ascii_lower(plan.type))));
        return output.reserve(plan.file_bytes);
    };
    MakerTask task;
    task.source = order.source;
    task.base = order.base;
    // What is quantised afterwards is best left as it is before.
    task.type = is_plain(order.form) && !order.form.as_source() ? ascii_lower(order.form.type) : "auto";
    Run run(Stage::converting, planned, watch);
    HEARTH_TRY(auto plan, run.carry_out(workshop, task, output.fd()));
    return made_of(std::move(plan), run);
}

Result<Made> quantize_into(WholeFile& output, std::string const& source, Order const& order, Workshop const& workshop,
                           Watch const& watch) {
    MakerTask const task{.source = source,
                         .output = output.temporary(),
                         .type = {},
                         .file_type = order.form.file_type,
                         .threads = workshop.threads};
    Run run(Stage::quantizing, [](PlanLine const&) { return ok(); }, watch);
    HEARTH_TRY(auto plan, run.carry_out(workshop, task, -1));
    return made_of(std::move(plan), run);
}

Result<Made> make_into(WholeFile& output, Order const& order, Workshop const& workshop, Watch const& watch) {
    if (!is_folder(order.source)) return quantize_into(output, order.source, order, workshop, watch);
    if (is_plain(order.form)) return convert_into(output, order, workshop, watch);
    // What lies between is a leftover of the output's name, should this process be killed.
    HEARTH_TRY(auto between, WholeFile::create({.path = output.path() + ".source", .existing = Existing::replace}));
    Order conversion = order;
    conversion.output = between.path();
    HEARTH_CHECK(convert_into(between, conversion, workshop, watch));
    return quantize_into(output, between.temporary(), order, workshop, watch);
}

}  // namespace

std::string_view to_string(Stage stage) noexcept { return stage == Stage::converting ? "converting" : "quantizing"; }

Result<Made> make(Order const& order, Workshop const& workshop, Watch const& watch) {
    std::error_code failed;
    if (!fs::exists(order.source, failed))
        return Error(Code::not_found, fmt::format("{}: there is no such file or folder", order.source), order.source);
    if (order.form.as_source() && !is_folder(order.source)) {
        return Error(
            Code::invalid_argument,
            fmt::format("{}: 'full' keeps the weights as they are, and it is a GGUF file already", order.source),
            "quantize");
    }
    auto path = order.output;
    if (path.empty()) {
        auto const type =
            is_folder(order.source) && is_plain(order.form) ? ascii_lower(order.form.type) : order.form.type;
        path = fmt::format("{}-{}.gguf", base_name(order.source), type.empty() ? "auto" : type);
    }
    HEARTH_TRY(auto output, WholeFile::create({path, order.existing, order.mode}));
    HEARTH_TRY(auto made, make_into(output, order, workshop, watch));
    HEARTH_CHECK(output.finish());
    made.output = output.path();
    made.file_bytes = fs::file_size(made.output, failed);
    return made;
}

}  // namespace hearth::formats
