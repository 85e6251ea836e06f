// `hearth serve`: wires the modules and owns the life of the front process.
//
//   resolve and check models -> log, metrics, loop -> pool (workers start) ->
//   HTTP (answers "loading" at once) -> ready line -> signals -> drain -> exit
#include <unistd.h>
#include <algorithm>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "api/routes.h"
#include "app/adapters.h"
#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/making.h"
#include "app/memory_watch.h"
#include "app/start_plan.h"
#include "fetch/throttle.h"
#include "http/server.h"
#include "library/library.h"
#include "library/permits.h"
#include "models/file_facts.h"
#include "net/loop.h"
#include "serving/launcher.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/process.h"

namespace hearth::app {
namespace {

// How often the start-up watcher looks whether each model is ready or failed.
constexpr auto kStartupPoll = std::chrono::milliseconds(2);
// How often it is looked how short memory is.
constexpr auto kMemoryLook = std::chrono::seconds(1);
// What workers get to save what they computed and close their connection before they are killed.
constexpr auto kWorkerGrace = std::chrono::seconds(5);
constexpr std::size_t kHeaderNameMax = 64;

Duration seconds(double s) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s)); }

// 0 means none; what is not is at least a millisecond.
std::optional<std::uint32_t> milliseconds(double s) {
    if (s <= 0) return std::nullopt;
    return static_cast<std::uint32_t>(std::max(1.0, s * 1000));
}

// NAME=N, the name without '='.
Result<std::vector<std::pair<std::string, double>>> tenant_weights(std::vector<std::string> const& arguments) {
    constexpr double kWeightMin = 0.01;
    constexpr double kWeightMax = 100;
    constexpr std::size_t kWeightsMax = 256;
    std::vector<std::pair<std::string, double>> out;
    for (auto const& argument : arguments) {
        auto const equals = argument.rfind('=');
        double weight = 0;
        char const* const end = argument.data() + argument.size();
        auto const parsed = equals == std::string::npos ? std::from_chars_result{end, std::errc::invalid_argument}
                                                        : std::from_chars(argument.data() + equals + 1, end, weight);
        bool const fits = parsed.ec == std::errc{} && parsed.ptr == end && weight >= kWeightMin && weight <= kWeightMax;
        if (!fits || equals == 0 || equals > domain::kTenantBytesMax) {
            return Error(
                Code::invalid_argument,
                fmt::format("--tenant-weight must be NAME=N, a name of 1 to {} bytes and N from {} to {}, got '{}'",
                            domain::kTenantBytesMax, kWeightMin, kWeightMax, argument),
                "--tenant-weight");
        }
        out.emplace_back(argument.substr(0, equals), weight);
    }
    if (out.size() > kWeightsMax) {
        return Error(Code::invalid_argument,
                     fmt::format("--tenant-weight is given {} times, the limit is {}", out.size(), kWeightsMax),
                     "--tenant-weight");
    }
    return out;
}

std::string url_of(std::string const& listening, std::uint16_t port) {
    bool const any = listening == "0.0.0.0" || listening == "::";
    auto const host = any ? std::string("127.0.0.1") : listening;
    return host.find(':') == std::string::npos || host.front() == '[' ? fmt::format("http://{}:{}", host, port)
                                                                      : fmt::format("http://[{}]:{}", host, port);
}

// Where to listen for Ollama's clients besides, and which origins may call there.
struct OllamaDoor {
    Address address;
    std::vector<std::string> origins;
};

// Nobody reaches it but programs of this machine.
bool is_open(ServeFlags const& flags, std::optional<OllamaDoor> const& ollama) {
    return http::is_loopback(flags.host) && (!ollama || http::is_loopback(ollama->address.host));
}

// One running server. Members are destroyed in reverse order: routes refer to
// services, services to the pool, the pool to the loop.
class Front {
public:
    // `ollama`: where to listen for Ollama's clients, too.
    Front(ServeFlags const& flags, StartPlan& start, std::uint64_t memory, std::optional<OllamaDoor> ollama,
          std::unique_ptr<telemetry::Log> log)
        : flags_(flags),
          start_(start),
          ollama_(std::move(ollama)),
          log_(std::move(log)),
          launcher_(serving::make_process_launcher(executable_path(), worker_environment())) {
        telemetry::add_process_metrics(metrics_);
        metrics_.on_collect(
            [this, &lost = metrics_.counter("hearth_log_lines_dropped_total", "Log lines that could not be written.")] {
                lost.add(static_cast<double>(log_->dropped()) - lost.value());
            });
        serving::PoolOptions options;
        options.requests_max = flags.queue;
        options.request_timeout = seconds(flags.request_timeout_s);
        options.memory_bytes = memory;
        options.parked_max = flags.parked;
        pool_ = serving::Pool::create(loop_, options, *launcher_, clock_, *log_, metrics_);
    }

    // `make_spec`: how models that were not named are served.
    // `made_of`: by id, whose files were made, and what of.
    Status start(std::vector<serving::ModelSpec> specs, library::MakeSpec make_spec,
                 std::map<std::string, std::string> made_of) {
        for (auto& spec : specs) HEARTH_CHECK(add(std::move(spec)));
        HEARTH_CHECK(open_library(std::move(make_spec), std::move(made_of)));
        services_.emplace(make_services());
        HEARTH_TRY(server_, listen({flags_.host, flags_.port}, {}));
        return ollama_ ? listen_for_ollama() : ok();
    }

    int run() {
        loop_.spawn(watch_memory());
        loop_.on_signals({SIGINT, SIGTERM}, [this](int signal) { on_signal(signal); });
        loop_.spawn(announce());
        loop_.run();
        return exit_;
    }

private:
    // What one alone takes too much of is for --memory to say.
    Status add(serving::ModelSpec spec) {
        auto added = pool_->add(std::move(spec));
        if (added || added.error().code != Code::exhausted) return added;
        return Error(Code::exhausted, fmt::format("{} (--memory {})", added.error().message, flags_.memory),
                     "--memory");
    }

    // Without a folder for what it remembers there is none: what was named is served.
    Status open_library(library::MakeSpec make_spec, std::map<std::string, std::string> made_of) {
        library::Options options;
        options.data_folder = data_folder(flags_.data_dir);
        if (options.data_folder.empty()) return ok();
        options.folders = own_models_folders(flags_.models_dirs);
        options.allowed = flags_.allowed_models;
        options.open = is_open(flags_, ollama_);
        options.pulls_at_once = flags_.pulls;
        options.new_id = random_suffix;
        options.make_file = make_model_file;
        options.reshape = reshaper(flags_.engine, pool_->memory().budget_bytes, flags_.while_quantizing == "original");
        options.reshape_patience = seconds(flags_.request_timeout_s);
        options.made_of = std::move(made_of);
        options.metrics = &metrics_;
        HEARTH_TRY(options.network, network_settings());
        if (!flags_.pull_limit.empty()) {
            HEARTH_TRY(auto const limit, parse_size(flags_.pull_limit, "--limit-rate"));
            options.network.client.throttle = std::make_shared<fetch::Throttle>(limit);
        }
        HEARTH_TRY(options.known, known_models(flags_.known_models, flags_.data_dir));
        HEARTH_TRY(library_, library::Library::create(loop_, *pool_, *log_, std::move(options), std::move(make_spec)));
        return ok();
    }

    Result<std::unique_ptr<http::Server>> listen(Address const& address, std::vector<std::string> const& origins) {
        http::Options options;
        options.host = address.host;
        options.port = address.port;
        options.connections_max = flags_.connections;
        options.allowed_hosts = flags_.allowed_hosts;
        options.allowed_origins = flags_.allowed_origins;
        options.allowed_origins.insert(options.allowed_origins.end(), origins.begin(), origins.end());
        return http::Server::create(loop_, options, api::routes(*services_), api::render_error, *log_, metrics_);
    }

    Status listen_for_ollama() {
        auto server = listen(ollama_->address, ollama_->origins);
        if (!server) {
            auto const& error = server.error();
            return Error(error.code, fmt::format("--ollama: {}; OLLAMA_HOST says where it listens", error.message),
                         "--ollama");
        }
        ollama_server_ = *std::move(server);
        return ok();
    }

    api::Services make_services() {
        api::Options options;
        options.request_timeout = seconds(flags_.request_timeout_s);
        options.ping_interval = seconds(flags_.ping_interval_s);
        options.deadlines = {milliseconds(flags_.queue_timeout_s), milliseconds(flags_.prefill_timeout_s),
                             milliseconds(flags_.decode_timeout_s)};
        options.tenant_header = flags_.tenant_header;
        options.slots = !flags_.no_slots;
        options.version = HEARTH_VERSION;
        options.build = HEARTH_VERSION;
        options.started_unix = unix_seconds();
        options.body_max = std::size_t{flags_.body_mib} << 20;
        return api::Services{.loop = loop_,
                             .pool = *pool_,
                             .log = *log_,
                             .metrics = metrics_,
                             .clock = clock_,
                             .options = options,
                             .unix_seconds = unix_seconds,
                             .random_suffix = random_suffix,
                             .draining = [this] { return stopping_; },
                             .unix_ns = unix_nanoseconds,
                             .facts = &facts_,
                             .library = library_.get()};
    }

    net::Task<void> watch_memory() {
        auto& gauge = metrics_.gauge("hearth_memory_pressure", "0: none, 1: caches are given up, 2: idle models go");
        MemoryWatch watch(read_small_file);
        auto before = serving::Pressure::none;
        while (!stopping_) {
            auto const pressure = watch.look(clock_.now());
            pool_->relieve(pressure);
            gauge.set(static_cast<double>(pressure));
            if (std::exchange(before, pressure) != pressure) {
                auto const& signs = watch.signs();
                log_->warning("memory pressure", {{"pressure", to_string(pressure)},
                                                  {"group_limit", signs.limit},
                                                  {"group_used", signs.used},
                                                  {"machine_available", signs.machine_available},
                                                  {"stalled_some", signs.stalled_some},
                                                  {"stalled_full", signs.stalled_full}});
            }
            co_await loop_.sleep(kMemoryLook);
        }
    }

    // Waits until every model is ready or has failed, then prints the line to
    // try. What works is served; with no model at all the server ends: a front
    // without engines serves nobody.
    net::Task<void> announce() {
        // Who reads the line may ask for any model at once. This is the first to wait for the library, so
        // no model is made before preload() knows which of them the flags name.
        if (library_) {
            co_await library_->settled();
            if (stopping_) co_return;
            auto const loaded = co_await preload(*library_, *pool_, *log_, loop_, start_);
            if (stopping_) co_return;
            if (!loaded) {
                exit_ = report(loaded.error());
                begin_stop(Duration::zero());
                co_return;
            }
        }
        while (!stopping_ && !settled()) co_await loop_.sleep(kStartupPoll);
        if (stopping_) co_return;
        // With a library and nothing named there is nothing to wait for.
        bool any = pool_->models().empty();
        for (auto const& model : pool_->models()) {
            any = any || (!model.awaited && model.state != serving::ModelState::failed);
            if (model.state == serving::ModelState::failed && model.base.empty())
                fmt::print(stderr, "hearth: {}: {}\n", model.id, model.problem);
        }
        if (any) {
            print_ready();
            co_return;
        }
        fmt::print(stderr, "hearth: no model could be loaded\n");
        exit_ = kExitError;
        begin_stop(Duration::zero());
    }

    [[nodiscard]] bool settled() const {
        return std::ranges::none_of(pool_->models(), [](serving::ModelStatus const& model) { return model.awaited; });
    }

    void print_ready() {
        auto const url = url_of(flags_.host, server_->port());
        for (auto const& model : pool_->models()) {
            if (!model.info || !model.base.empty()) continue;
            log_->info("model ready", {{"model", model.id},
                                       {"architecture", model.info->architecture},
                                       {"quantization", model.info->quantization},
                                       {"cpu", model.info->cpu_variant},
                                       {"threads", model.info->threads},
                                       {"context", model.info->context_request},
                                       {"kv_cells", model.info->kv_cells},
                                       {"sandbox", model.info->isolation}});
        }
        fmt::print(
            "Hearth {} is ready on {}\n\n  curl {}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
            "    -d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}}], \"max_tokens\": "
            "64}}'\n\n",
            HEARTH_VERSION, url, url);
        if (ollama_)
            fmt::print("Ollama's clients find it on {}\n\n", url_of(ollama_->address.host, ollama_server_->port()));
        std::fflush(stdout);
    }

    void on_signal(int signal) {
        if (stopping_) {
            log_->warning("second signal: exiting at once", {{"signal", signal}});
            ::_exit(kExitInterrupted);  // workers die with us (parent-death signal)
        }
        log_->info("stopping: finishing what runs", {{"signal", signal}, {"grace_s", flags_.grace_s}});
        begin_stop(seconds(flags_.grace_s));
    }

    void begin_stop(Duration grace) {
        stopping_ = true;
        pool_->drain();
        loop_.spawn(finish(grace));
    }

    // Both servers stop accepting at once and share the grace.
    net::Task<void> finish(Duration grace) {
        if (ollama_server_) loop_.spawn(drain_ollama(grace));
        bool all_done = co_await server_->drain(grace);
        if (ollama_server_) {
            if (!ollama_drained_) co_await ollama_drain_ended_.wait();
            all_done = all_done && *ollama_drained_;
        }
        if (!all_done) log_->warning("grace time is over: requests were cut", {{"grace_s", flags_.grace_s}});
        if (library_) co_await library_->write_down();
        co_await pool_->stop(kWorkerGrace);
        log_->info("stopped");
        loop_.stop();
    }

    net::Task<void> drain_ollama(Duration grace) {
        ollama_drained_ = co_await ollama_server_->drain(grace);
        ollama_drain_ended_.notify();
    }

    ServeFlags const& flags_;
    StartPlan& start_;
    std::optional<OllamaDoor> ollama_;
    std::unique_ptr<telemetry::Log> log_;
    telemetry::Registry metrics_;
    SteadyClock clock_;
    net::Loop loop_;
    std::unique_ptr<serving::Launcher> launcher_;
    std::unique_ptr<serving::Pool> pool_;
    models::FactsReader facts_;
    std::unique_ptr<library::Library> library_;  // null: nowhere to remember anything
    std::optional<api::Services> services_;
    std::unique_ptr<http::Server> server_;
    std::unique_ptr<http::Server> ollama_server_;  // null: nobody asked for it
    std::optional<bool> ollama_drained_;           // once it is: whether all finished
    net::Signal ollama_drain_ended_{loop_};
    bool stopping_ = false;
    int exit_ = kExitOk;
};

Status check_reach(std::string const& host, std::string_view named_by, ServeFlags const& flags) {
    if (http::is_loopback(host) || flags.allow_unauthenticated) return ok();
    return Error(Code::invalid_argument,
                 fmt::format("{} {} would let anybody on the network use the models without a key; "
                             "add --allow-unauthenticated if that is what you want",
                             named_by, host),
                 std::string(named_by));
}

// Nothing if nobody asked for it.
Result<std::optional<OllamaDoor>> door_for_ollama(ServeFlags const& flags) {
    if (!flags.ollama) return std::optional<OllamaDoor>();
    OllamaDoor door;
    HEARTH_TRY(door.address, ollama_address());
    HEARTH_CHECK(check_reach(door.address.host, "OLLAMA_HOST", flags));
    HEARTH_TRY(door.origins, ollama_origins());
    return std::optional(std::move(door));
}

Result<std::uint64_t> memory_budget(ServeFlags const& flags) {
    if (flags.memory == "auto") return automatic_budget(read_memory_signs(read_small_file));
    if (flags.memory == "unlimited") return 0;
    auto const bytes = parse_size(flags.memory, "--memory");
    if (bytes) return *bytes;
    return Error(Code::invalid_argument,
                 fmt::format("--memory must be auto, unlimited or a size up to 1024TiB like 512MiB or 4GiB; got '{}'",
                             flags.memory),
                 "--memory");
}

Status check_flags(ServeFlags const& flags) {
    if (flags.models.empty() && data_folder(flags.data_dir).empty()) {
        return Error(Code::invalid_argument,
                     "no model given and no folder to remember models in: use `--model FILE` (a GGUF file), or give "
                     "--data-dir",
                     "--model");
    }
    HEARTH_CHECK(check_reach(flags.host, "--host", flags));
    HEARTH_CHECK(read_keep_alives(flags));  // before any model is made
    if (auto const origins = http::check_origins(flags.allowed_origins); !origins)
        return Error(origins.error().code, fmt::format("--allowed-origin: {}", origins.error().message),
                     "--allowed-origin");
    bool const token = std::ranges::all_of(flags.tenant_header, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    if (!token || flags.tenant_header.size() > kHeaderNameMax) {
        return Error(
            Code::invalid_argument,
            fmt::format("--tenant-header must be the name of a header, at most {} letters, digits, - and _, got '{}'",
                        kHeaderNameMax, flags.tenant_header),
            "--tenant-header");
    }
    return ok();
}

Result<Given> open_given(ServeFlags const& flags, std::vector<std::string> const& folders) {
    Given given;
    for (auto const& argument : flags.models) {
        HEARTH_TRY(auto servable, make_servable(argument, folders, flags.engine, flags.engine.memory_bytes));
        HEARTH_TRY(auto spec, model_spec(servable.argument, folders, flags.engine, servable.weights));
        if (!servable.made.empty()) given.made_of[spec.id] = std::move(servable.source);
        given.holds.push_back(std::move(servable.hold));
        given.specs.push_back(std::move(spec));
    }
    return given;
}

// All that flags say of these models.
Result<StartPlan> arrange(Given& given, ServeFlags const& flags, std::vector<std::string> const& folders,
                          library::Permits const& permits) {
    apply_swaps(given, flags, folders, permits);  // drafts and adapters are held to the files that are served
    HEARTH_CHECK(assign_drafts(given.specs, folders, flags.engine));
    HEARTH_CHECK(assign_adapters(given.specs, flags.adapters));
    HEARTH_TRY(auto plan, plan_start(given, flags));
    // What adapters and further workers take is not left to the cache.
    for (auto& spec : given.specs)
        if (spec.instances > 1 || spec.adapter_bytes > 0) HEARTH_CHECK(fit_cache(spec, flags.engine));
    return plan;
}

}  // namespace

int serve(ServeFlags const& given) {
    auto flags = given;
    if (auto const checked = check_flags(flags); !checked) return report(checked.error());
    auto const weights = tenant_weights(flags.tenant_weights);
    if (!weights) return report(weights.error());
    auto const public_prefixes = read_public_prefixes(flags.public_prefixes);
    if (!public_prefixes) return report(public_prefixes.error());
    auto ollama = door_for_ollama(flags);
    if (!ollama) return report(ollama.error());
    auto log = telemetry::Log::create(log_options(flags.log));
    if (!log) return report(log.error());

    auto const memory = memory_budget(flags);
    if (!memory) return report(memory.error());
    flags.engine.memory_bytes = *memory;
    auto const permits = library::Permits::create(flags.allowed_models, is_open(flags, *ollama));
    if (!permits) return report(permits.error());

    auto const finish = [&](serving::ModelSpec& spec) {
        spec.tenant_weights = *weights;
        spec.public_prefixes = *public_prefixes;
    };
    auto const folders = models_folders(flags.models_dirs, flags.data_dir);
    auto given_models = open_given(flags, folders);  // what it holds is held until the last worker is gone
    if (!given_models) return report(given_models.error());
    auto start = arrange(*given_models, flags, folders, *permits);
    if (!start) return report(start.error());
    for (auto& spec : given_models->specs) finish(spec);
    Front front(flags, *start, *memory, *std::move(ollama), std::move(log).value());
    auto const make_spec = [&](library::SpecOrder const& order) {
        auto spec = app::make_spec(order, flags, *start);
        if (spec) finish(*spec);
        return spec;
    };
    auto const started = front.start(std::move(given_models->specs), make_spec, given_models->made_of);
    if (!started) return report(started.error());
    return front.run();
}

}  // namespace hearth::app
