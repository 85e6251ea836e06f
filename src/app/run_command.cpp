// `hearth run MODEL [PROMPT]`: one answer to stdout, through the same pool and
// sandboxed worker that serve uses.
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/making.h"
#include "app/run_request.h"
#include "app/template_trust.h"
#include "domain/generate.h"
#include "net/loop.h"
#include "serving/launcher.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::app {
namespace {

constexpr auto kWorkerGrace = std::chrono::seconds(5);

// stdin, up to the prompt limit.
Result<std::string> read_stdin() {
    std::string text;
    char chunk[1 << 16];
    for (;;) {
        auto const got = ::read(STDIN_FILENO, chunk, sizeof chunk);
        if (got == 0) return text;
        if (got < 0) return Error(Code::io, "cannot read stdin");
        text.append(chunk, static_cast<std::size_t>(got));
        if (text.size() > domain::kPromptBytesMax) {
            return Error(Code::too_large,
                         fmt::format("stdin has more than the {} bytes a prompt may have", domain::kPromptBytesMax));
        }
    }
}

// The argument and what is piped in, the argument first: `hearth run m "Sum up:" < file`.
Result<std::string> compose_prompt(RunFlags const& flags) {
    std::string piped;
    if (::isatty(STDIN_FILENO) == 0) {
        HEARTH_TRY(piped, read_stdin());
    }
    auto prompt = flags.prompt;
    if (!piped.empty()) prompt += (prompt.empty() ? "" : "\n\n") + piped;
    if (prompt.empty()) {
        return Error(Code::invalid_argument,
                     "no prompt: give one as an argument (`hearth run MODEL \"...\"`) or pipe it in", "PROMPT");
    }
    return prompt;
}

// The one generation of this process and what becomes of it.
class Answer {
public:
    Answer(RunFlags const& flags, std::unique_ptr<telemetry::Log> log)
        : flags_(flags),
          log_(std::move(log)),
          launcher_(serving::make_process_launcher(executable_path(), worker_environment())) {
        pool_ = serving::Pool::create(loop_, serving::PoolOptions{}, *launcher_, clock_, *log_, metrics_);
    }

    int run(serving::ModelSpec spec, domain::GenerateRequest request) {
        if (auto const added = pool_->add(std::move(spec)); !added) return report(added.error());
        auto generation = pool_->submit(std::move(request));
        if (!generation) return report(generation.error());
        generation_ = std::move(generation).value();
        loop_.on_signals({SIGINT, SIGTERM}, [this](int) { interrupt(); });
        loop_.spawn(consume());
        loop_.run();
        return exit_;
    }

private:
    void interrupt() {
        if (exit_ == kExitInterrupted) ::_exit(kExitInterrupted);  // a second Ctrl-C
        exit_ = kExitInterrupted;
        if (generation_) generation_->cancel();
    }

    net::Task<void> consume() {
        for (;;) {
            auto const event = co_await generation_->next();
            if (auto const* delta = std::get_if<domain::Delta>(&event)) write(delta->text);
            if (auto const* done = std::get_if<domain::ChoiceDone>(&event)) reason_ = done->reason;
            if (auto const* failed = std::get_if<domain::Failed>(&event)) exit_ = report(failed->error);
            if (auto const* done = std::get_if<domain::Done>(&event)) finish(*done);
            if (domain::is_terminal(event)) break;
        }
        generation_.reset();
        co_await pool_->stop(kWorkerGrace);
        loop_.stop();
    }

    void write(std::string const& text) {
        answer_ += flags_.json ? text : std::string{};
        if (flags_.json || text.empty()) return;
        ends_with_newline_ = text.back() == '\n';
        if (!put(text)) generation_->cancel();
    }

    // A reader that left has had enough; any other failure is one.
    bool put(std::string_view text) {
        errno = 0;
        if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
        if (errno != EPIPE && exit_ == kExitOk)
            exit_ = report(Error(Code::io, fmt::format("cannot write the answer: {}", std::strerror(errno))));
        return false;
    }

    void finish(domain::Done const& done) {
        if (flags_.json) {
            nlohmann::ordered_json const object{
                {"answer", answer_},
                {"finish_reason", reason_ == domain::FinishReason::length ? "length" : "stop"},
                {"interrupted", exit_ == kExitInterrupted},
                {"prompt_tokens", done.usage.prompt_tokens},
                {"completion_tokens", done.usage.completion_tokens},
                {"prompt_ms", done.timings.prompt_ms},
                {"predicted_ms", done.timings.predicted_ms}};
            put(object.dump() + '\n');
        } else if (!ends_with_newline_) {
            put("\n");
        }
        if (!flags_.quiet && ::isatty(STDERR_FILENO) != 0 && done.timings.predicted_ms > 0) {
            fmt::print(stderr, "[{} prompt tokens in {:.0f} ms, {} tokens at {:.1f}/s]\n", done.usage.prompt_tokens,
                       done.timings.prompt_ms, done.usage.completion_tokens,
                       1000.0 * done.timings.predicted_n / done.timings.predicted_ms);
        }
    }

    RunFlags const& flags_;
    std::unique_ptr<telemetry::Log> log_;
    telemetry::Registry metrics_;
    SteadyClock clock_;
    net::Loop loop_;
    std::unique_ptr<serving::Launcher> launcher_;
    std::unique_ptr<serving::Pool> pool_;
    std::unique_ptr<serving::Generation> generation_;
    std::string answer_;
    domain::FinishReason reason_ = domain::FinishReason::stop;
    bool ends_with_newline_ = false;
    int exit_ = kExitOk;
};

Result<serving::ModelSpec> find(std::string const& name, RunFlags const& flags, std::vector<std::string> const& folders,
                                std::shared_ptr<void>& hold) {
    HEARTH_TRY(auto const servable, make_servable(name, folders, flags.engine));
    hold = servable.hold;
    HEARTH_TRY(auto spec, model_spec(servable.argument, folders, flags.engine, servable.weights));
    auto const& source = servable.source.empty() ? spec.path : servable.source;
    HEARTH_CHECK(check_trust({spec.id, source, spec.path}, data_folder({})));
    return spec;
}

Result<serving::ModelSpec> find_or_pull(RunFlags const& flags, std::vector<std::string> const& folders,
                                        std::shared_ptr<void>& hold) {
    auto spec = find(flags.model, flags, folders, hold);
    if (spec || spec.error().code != Code::not_found) return spec;
    HEARTH_TRY(auto const pulled, pull_to_run(flags));
    return pulled ? find(*pulled, flags, folders, hold) : std::move(spec);
}

}  // namespace

int run(RunFlags const& flags) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves shows as a failed write
    auto const folders = models_folders(flags.models_dirs);
    std::shared_ptr<void> hold;  // of what was made of the model
    auto spec = find_or_pull(flags, folders, hold);
    if (!spec) return report(spec.error());
    std::vector<serving::ModelSpec> specs{std::move(spec).value()};
    if (auto const assigned = assign_drafts(specs, folders, flags.engine); !assigned) return report(assigned.error());
    auto prompt = compose_prompt(flags);
    if (!prompt) return report(prompt.error());
    auto request = run_request(flags, std::move(prompt).value(), *specs.front().definition);
    if (!request) return report(request.error());

    // Only what goes wrong belongs on the terminal beside the answer.
    auto options = log_options(flags.log);
    if (!flags.log.debug) options.level = telemetry::Level::error;
    auto log = telemetry::Log::create(options);
    if (!log) return report(log.error());
    Answer answer(flags, std::move(log).value());
    return answer.run(std::move(specs.front()), std::move(request).value());
}

}  // namespace hearth::app
