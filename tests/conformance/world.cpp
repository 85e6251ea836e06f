#include "world.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <stdexcept>
#include <utility>

#include "catalog/catalog.h"

namespace hearth::conformance {
namespace {

using std::chrono::milliseconds;

// A held model answers no ping and takes no step for as long as the case likes.
constexpr Duration kHangTimeout = std::chrono::minutes(5);

std::uint64_t number(Step const& step, std::string const& value) {
    std::size_t end = 0;
    auto const parsed = std::stoull(value, &end);
    if (end != value.size()) throw std::runtime_error("line " + std::to_string(step.line) + ": no number: " + value);
    return parsed;
}

// Those that are a text. Whether it is one of them.
bool set_text(Settings& settings, std::string_view name, std::string const& value) {
    if (name == "load_error") {
        settings.load_error = value;
    } else if (name == "tenant_header") {
        settings.api.tenant_header = value;
    } else if (name == "definition") {
        auto definition = modelfile::read_definition(value);
        if (!definition) throw std::runtime_error("no definition: " + definition.error().message);
        settings.definition = std::make_shared<modelfile::Definition const>(*std::move(definition));
    } else if (name == "allow") {
        settings.allowed_models.push_back(value);
    } else {
        return false;
    }
    return true;
}

void set(Settings& settings, Step const& step) {
    auto const space = std::min(step.rest.find(' '), step.rest.size());
    auto const name = step.rest.substr(0, space);
    auto const value = space < step.rest.size() ? step.rest.substr(step.rest.find_first_not_of(' ', space)) : "";
    if (set_text(settings, name, value)) return;
    if (name == "public_prefix") {
        settings.public_prefixes.push_back(value);
        return;
    }
    std::map<std::string, std::function<void(std::uint64_t)>> const setters{
        {"repeat", [&](auto v) { settings.model.repeat = v != 0; }},
        {"chat_template", [&](auto v) { settings.model.chat_template = v != 0; }},
        {"generates", [&](auto v) { settings.model.generates = v != 0; }},
        {"ranks", [&](auto v) { settings.model.ranks = v != 0; }},
        {"adapters", [&](auto v) { settings.model.adapters = static_cast<std::uint32_t>(v); }},
        {"context", [&](auto v) { settings.model.context_request = static_cast<std::uint32_t>(v); }},
        {"context_train", [&](auto v) { settings.model.context_train = static_cast<std::uint32_t>(v); }},
        {"kv_cells", [&](auto v) { settings.model.kv_cells = static_cast<std::uint32_t>(v); }},
        {"sequences", [&](auto v) { settings.model.sequences_max = static_cast<std::uint32_t>(v); }},
        {"determinism", [&](auto v) { settings.model.determinism = static_cast<domain::Determinism>(v); }},
        {"batch", [&](auto v) { settings.model.batch_max = static_cast<std::uint32_t>(v); }},
        {"requests_max", [&](auto v) { settings.pool.requests_max = static_cast<std::uint32_t>(v); }},
        {"replays_max",
         [&](auto v) {
             settings.pool.replays_max = settings.pool.replays_waiting_max = static_cast<std::uint32_t>(v);
         }},
        {"request_timeout_ms", [&](auto v) { settings.api.request_timeout = milliseconds(v); }},
        {"ping_ms", [&](auto v) { settings.api.ping_interval = milliseconds(v); }},
        {"status_ms", [&](auto v) { settings.api.status_interval = milliseconds(v); }},
        {"queue_timeout_ms", [&](auto v) { settings.api.deadlines.queue_ms = static_cast<std::uint32_t>(v); }},
        {"slots", [&](auto v) { settings.api.slots = v != 0; }},
        {"body_max", [&](auto v) { settings.api.body_max = v; }},
        {"connections_max", [&](auto v) { settings.http.connections_max = v; }},
        {"header_max", [&](auto v) { settings.http.header_bytes_max = v; }},
        {"header_timeout_ms", [&](auto v) { settings.http.header_timeout = milliseconds(v); }},
        {"body_timeout_ms", [&](auto v) { settings.http.body_timeout = milliseconds(v); }},
        {"patience_ms", [&](auto v) { settings.patience = milliseconds(v); }},
        {"hold_at", [&](auto v) { settings.hold_at = v; }},
        {"fail_at", [&](auto v) { settings.fail_at = v; }},
        {"hold_load", [&](auto v) { settings.hold_load = v != 0; }},
        {"lazy", [&](auto v) { settings.lazy = v != 0; }},
        {"memory", [&](auto v) { settings.pool.memory_bytes = v; }},
        {"memory_cost", [&](auto v) { settings.memory_cost = v; }},
        {"no_model", [&](auto v) { settings.no_model = v != 0; }},
        {"file", [&](auto v) { settings.file = v != 0; }},
        {"library", [&](auto v) { settings.library = v != 0; }},
        {"open", [&](auto v) { settings.open = v != 0; }},
        {"prefix_cache", [&](auto v) { settings.prefix_cache = v != 0; }},
    };
    auto const setter = setters.find(name);
    if (setter == setters.end())
        throw std::runtime_error("line " + std::to_string(step.line) + ": no setting '" + name + "'");
    setter->second(number(step, value));
}

}  // namespace

void Gate::close() {
    std::lock_guard const lock(mutex_);
    closed_ = !retired_;
}

void Gate::arm() {
    std::lock_guard const lock(mutex_);
    armed_ = true;
}

void Gate::trip() {
    std::lock_guard const lock(mutex_);
    if (std::exchange(armed_, false)) closed_ = !retired_;
}

void Gate::open() {
    {
        std::lock_guard const lock(mutex_);
        closed_ = armed_ = false;
    }
    opened_.notify_all();
}

void Gate::retire() {
    {
        std::lock_guard const lock(mutex_);
        retired_ = true;
    }
    open();
}

void Gate::pass() {
    std::unique_lock lock(mutex_);
    ++blocked_;
    opened_.wait(lock, [this] { return !closed_; });
    --blocked_;
}

bool Gate::holds() {
    std::lock_guard const lock(mutex_);
    return closed_ && blocked_ > 0;
}

Settings Settings::parse(std::vector<Step> const& steps) {
    Settings settings;
    settings.model.pieces = {"Hello", " world", "!"};
    settings.pool.backoff_min = milliseconds(1);
    settings.pool.backoff_max = milliseconds(10);
    settings.pool.hang_timeout = kHangTimeout;
    settings.pool.step_timeout = kHangTimeout;
    settings.pool.ping_interval = milliseconds(5);
    settings.http.port = 0;
    settings.api.version = "1.2.3";
    settings.api.build = "test";
    settings.api.started_unix = 1700000000;
    for (auto const& step : steps) {
        std::string_view rest = step.rest;
        if (step.word == "set") {
            set(settings, step);
        } else if (step.word == "script") {
            settings.model.pieces.clear();
            while (!rest.empty()) settings.model.pieces.push_back(take_quoted(rest));
        } else {
            settings.model_names.clear();
            for (auto at = rest.find_first_not_of(' '); at != std::string_view::npos;
                 at = rest.find_first_not_of(' ')) {
                rest.remove_prefix(at);
                auto const end = std::min(rest.find(' '), rest.size());
                settings.model_names.emplace_back(rest.substr(0, end));
                rest.remove_prefix(end);
            }
        }
    }
    return settings;
}

World::World(Settings settings) : settings_(std::move(settings)) {
    if (settings_.hold_load) load_gate_.close();
    if (settings_.hold_at != UINT64_MAX) gate_.arm();
    start();
    thread_ = std::thread([this] { loop_->run(); });
    try {
        wait_until_settled();
    } catch (std::exception const&) {
        stop();
        throw;
    }
}

World::~World() { stop(); }

void World::stop() {
    load_gate_.retire();
    gate_.retire();
    loop_->post([this] { loop_->stop(); });
    thread_.join();
    server_.reset();
    library_.reset();
    facts_.reset();
    pool_.reset();
    loop_.reset();
    launcher_.reset();
}

worker::BackendFactory World::backend_factory() {
    return [this](worker::Progress const&) -> Result<std::unique_ptr<llama::Backend>> {
        load_gate_.pass();
        if (!settings_.load_error.empty()) return Error(Code::corrupt, settings_.load_error);
        auto options = settings_.model;
        options.before_decode = [this](std::uint64_t index) -> Status {
            if (index == settings_.hold_at) gate_.trip();
            gate_.pass();
            if (index == settings_.fail_at) return Error(Code::internal, "the kernel failed at /secret");
            return ok();
        };
        return std::unique_ptr<llama::Backend>(llama::make_scripted(std::move(options)));
    };
}

void World::start() {
    loop_ = std::make_unique<net::Loop>();
    launcher_ = std::make_unique<worker::ThreadLauncher>(
        [this](serving::ModelSpec const&) { return backend_factory(); }, engine::Options{}, clock_);
    facts_ = std::make_unique<models::FactsReader>();
    pool_ = serving::Pool::create(*loop_, settings_.pool, *launcher_, clock_, *log_, metrics_);
    if (!settings_.no_model) {
        serving::ModelSpec spec;
        spec.id = settings_.model_names.front();
        spec.prefix_cache = settings_.prefix_cache ? 1 : 0;
        spec.lazy = settings_.lazy;
        spec.definition = settings_.definition;
        spec.memory_bytes = settings_.memory_cost;
        spec.public_prefixes = settings_.public_prefixes;
        if (settings_.file) {
            auto model = models::testing::tiny_llama();
            model.text("general.license", "mit").text("tokenizer.chat_template", "{{ messages }}");
            spec.path = folder_.write("tiny.gguf", model.build());
        }
        spec.aliases.assign(settings_.model_names.begin() + 1, settings_.model_names.end());
        for (std::uint32_t set = 1; set <= settings_.model.adapters; ++set)
            spec.variants.push_back({spec.id + "-lora-" + std::to_string(set),
                                     {{"/adapters/" + std::to_string(set) + ".gguf", 0.5F}},
                                     nullptr});
        if (auto const added = pool_->add(spec); !added) throw std::runtime_error(added.error().message);
    }
    auto const suffix = [next = 0]() mutable { return "0123456789abcdefghij" + std::to_string(next++); };
    services_ = std::make_unique<api::Services>(api::Services{*loop_, *pool_, *log_, metrics_, clock_, settings_.api,
                                                              [] { return std::int64_t{1700000000}; }, suffix,
                                                              [this] { return draining_; }});
    services_->facts = facts_.get();
    if (settings_.library) start_library();
    services_->library = library_.get();
    auto server =
        http::Server::create(*loop_, settings_.http, api::routes(*services_), api::render_error, *log_, metrics_);
    if (!server) throw std::runtime_error(server.error().message);
    server_ = std::move(*server);
    port_ = server_->port();
}

// The folder is as if a server had run there before, and something had happened since.
void World::start_library() {
    auto const model = [](std::string const& chat_template) {
        return models::testing::tiny_llama().text("tokenizer.chat_template", chat_template).build();
    };
    for (auto const* name : {"tiny.gguf", "damaged.gguf", "changed.gguf"})
        static_cast<void>(folder_.write(name, model("{{ messages }}")));
    {
        auto const opened = catalog::Catalog::open(data_.path() + "/catalog.db", catalog::Access::read_write);
        if (!opened) throw std::runtime_error(opened.error().message);
        auto& catalog = **opened;
        auto const scan = [&] {
            if (auto const done = catalog.scan({folder_.path()}); !done) throw std::runtime_error(done.error().message);
        };
        scan();
        auto read = catalog.find("damaged")->files;
        read.front().damage = "'damaged.gguf' is not what it was";
        bool const known = catalog.pin_template("changed") && catalog.record("damaged", read);
        static_cast<void>(folder_.write("changed.gguf", model("{{ another one }}")));
        scan();
        if (!known) throw std::runtime_error("the catalog remembers nothing");
    }
    library::Options options;
    options.folders = {folder_.path()};
    options.data_folder = data_.path();
    options.allowed = settings_.allowed_models;
    options.open = settings_.open;
    hub_ = std::make_unique<fetch::test::FileServer>(
        "127.0.0.1", [](fetch::test::Asked const&) { return fetch::test::Reply{.status = 401}; });
    options.network.hub.endpoint = hub_->url("");
    options.judged_after = milliseconds(0);
    options.new_id = [next = std::make_shared<std::atomic<int>>(0)] { return "job" + std::to_string(++*next); };
    auto created =
        library::Library::create(*loop_, *pool_, *log_, std::move(options), [](library::SpecOrder const& order) {
            serving::ModelSpec spec;
            spec.id = order.id;
            spec.path = order.path;
            return Result<serving::ModelSpec>(std::move(spec));
        });
    if (!created) throw std::runtime_error(created.error().message);
    library_ = std::move(*created);
}

template <typename Work>
auto World::on_loop(Work work) -> decltype(work()) {
    auto const task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
    auto result = task->get_future();
    loop_->post([task] { (*task)(); });
    if (result.wait_for(settings_.patience) != std::future_status::ready)
        throw std::runtime_error("the server's loop did nothing for " + std::to_string(settings_.patience.count()) +
                                 " ms");
    return result.get();
}

void World::wait_until_settled() {
    if (settings_.no_model || settings_.hold_load || settings_.lazy) return;
    auto const settled = [this] {
        auto const state = pool_->status("")->state;
        return state == serving::ModelState::ready || state == serving::ModelState::failed;
    };
    auto const deadline = clock_.now() + settings_.patience;
    while (!on_loop(settled))
        if (clock_.now() > deadline)
            throw std::runtime_error("the model was neither ready nor failed after " +
                                     std::to_string(settings_.patience.count()) + " ms");
}

void World::release() {
    load_gate_.open();
    gate_.open();
}

void World::kill_worker() {
    on_loop([this] { launcher_->kill_all(settings_.model_names.front()); });
}

void World::drain() {
    on_loop([this] {
        draining_ = true;
        pool_->drain();
    });
}

std::uint64_t World::observe(std::string_view name) {
    return on_loop([this, name = std::string(name)]() -> std::uint64_t {
        if (name == "held") return gate_.holds() || load_gate_.holds() ? 1 : 0;
        if (name == "exchanges") return server_->active_exchanges();
        if (name == "ready") return pool_->ready() ? 1 : 0;
        auto const status = pool_->status("");
        if (name == "running") return status->stats.running;
        if (name == "waiting") return status->waiting;
        if (name == "inside") return status->inside;
        if (name == "restarts") return status->restarts;
        if (name == "kv_used") return status->stats.kv_used;
        throw std::runtime_error("nothing to await is called '" + name + "'");
    });
}

void World::await(std::string_view name, std::uint64_t value) {
    auto const deadline = clock_.now() + settings_.patience;
    for (auto now = observe(name); now != value; now = observe(name)) {
        if (clock_.now() > deadline)
            throw std::runtime_error("awaited " + std::string(name) + "=" + std::to_string(value) + " for " +
                                     std::to_string(settings_.patience.count()) + " ms, it is " + std::to_string(now));
        std::this_thread::yield();
    }
}

}  // namespace hearth::conformance
