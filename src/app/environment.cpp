#include "app/environment.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string_view>

#include <fmt/format.h>

#include "app/adapters.h"
#include "app/cli.h"
#include "base/utf8.h"
#include "catalog/create.h"
#include "catalog/imported.h"
#include "catalog/locate.h"
#include "engine/engine.h"
#include "llama/cpu_variants.h"
#include "modelfile/known_templates.h"
#include "models/estimate.h"
#include "models/gguf.h"
#include "models/report.h"

namespace hearth::app {
namespace {

std::string variable(char const* name) {
    char const* const value = std::getenv(name);
    return value == nullptr ? std::string{} : std::string(value);
}

// As a worker, which may have another working folder, finds it.
std::string absolute(std::string const& path) {
    std::error_code failed;
    auto const full = std::filesystem::weakly_canonical(path, failed);
    return failed ? path : full.string();
}

constexpr std::uint32_t kContextDefault = 8192;  // as llama::LoadOptions::context_request has it
constexpr std::uint64_t kCacheDiskDefault = 4ULL << 30;
constexpr std::uint64_t kCachesDefault = 4;  // models' worth of disk for all together
constexpr std::uint64_t kCacheMemoryMost = 1ULL << 30;
constexpr std::uint64_t kCacheMemoryPart = 20;  // of the machine's

// One byte more than a list may have, so that a longer one is refused.
Result<std::string> read_known_list(std::string const& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return Error(Code::invalid_argument, fmt::format("cannot read the list of known models '{}'", path),
                     "--known-models");
    std::string text(catalog::kKnownListMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    return text;
}

std::string user_cache() {
    auto cache = variable("XDG_CACHE_HOME");
    if (!cache.starts_with('/')) cache.clear();
    if (cache.empty() && !variable("HOME").empty()) cache = variable("HOME") + "/.cache";
    return cache;
}

std::uint64_t cache_memory_default() {
    auto const pages = ::sysconf(_SC_PHYS_PAGES);
    auto const page = ::sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0) return 0;
    return std::min(kCacheMemoryMost,
                    static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page) / kCacheMemoryPart);
}

// One folder per model path: see docs/formats/kv-cache-files.md.
Status fill_cache(serving::ModelSpec& spec, EngineFlags const& engine) {
    spec.cache_memory_bytes = cache_memory_default();
    spec.cache_disk_bytes = kCacheDiskDefault;
    if (!engine.cache_memory.empty()) {
        HEARTH_TRY(spec.cache_memory_bytes, parse_size(engine.cache_memory, "--cache-memory"));
    }
    if (!engine.cache_disk.empty()) {
        HEARTH_TRY(spec.cache_disk_bytes, parse_size(engine.cache_disk, "--cache-disk"));
    }
    spec.cache_disk_total_bytes = kCachesDefault * spec.cache_disk_bytes;
    if (!engine.cache_disk_total.empty()) {
        HEARTH_TRY(spec.cache_disk_total_bytes, parse_size(engine.cache_disk_total, "--cache-disk-total"));
    }
    if (!engine.cache_key_file.empty()) {
        HEARTH_CHECK(read_cache_key(engine.cache_key_file));  // say now what is wrong with it
        spec.cache_key_file = absolute(engine.cache_key_file);
    }
    auto folder = engine.cache_dir.empty() && !user_cache().empty() ? user_cache() + "/hearth/kv" : engine.cache_dir;
    if (spec.cache_disk_bytes == 0 || folder.empty()) return ok();
    auto const digest = kvstore::space_of(absolute(spec.path), "").digest;
    folder = absolute(folder) + "/";
    for (auto const byte : digest) folder += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    spec.cache_folder = folder;
    return ok();
}

Status check_file(std::string const& path) {
    HEARTH_CHECK(check_no_folder(path));
    auto const checked = models::check_model(path);
    if (checked.valid) return ok();
    auto const why = checked.problems.empty() ? std::string("unknown problem") : checked.problems.front();
    return Error(Code::corrupt,
                 fmt::format("{} is not a usable model file: {} (`hearth check {}` tells more)", path, why, path));
}

Status assign_draft(std::vector<serving::ModelSpec>& specs, std::string const& argument,
                    std::vector<std::string> const& folders) {
    auto const equals = argument.find('=');
    bool const named = equals != std::string::npos && ::access(argument.c_str(), F_OK) != 0;
    auto const id = named ? argument.substr(0, equals) : specs.front().id;
    if (!named && specs.size() > 1) {
        return Error(Code::invalid_argument,
                     fmt::format("--draft '{}' does not say for which of the {} models: use --draft ID=FILE", argument,
                                 specs.size()),
                     "--draft");
    }
    auto const spec = std::ranges::find(specs, id, &serving::ModelSpec::id);
    if (spec == specs.end())
        return Error(Code::invalid_argument, fmt::format("--draft '{}': no model '{}' is served", argument, id),
                     "--draft");
    if (!spec->draft_path.empty()) {
        return Error(Code::invalid_argument,
                     fmt::format("--draft names '{}' and '{}' for the model '{}', it can have one", spec->draft_path,
                                 argument, id),
                     "--draft");
    }
    HEARTH_TRY(auto located, catalog::locate(named ? argument.substr(equals + 1) : argument, folders));
    spec->draft_path = std::move(located.path);
    return check_file(spec->draft_path);
}

}  // namespace

Status assign_drafts(std::vector<serving::ModelSpec>& specs, std::vector<std::string> const& folders,
                     EngineFlags const& engine) {
    if (!engine.drafts.empty() && engine.no_speculation)
        return Error(Code::invalid_argument,
                     fmt::format("--draft '{}' guesses tokens ahead, --no-speculation says that none are guessed",
                                 engine.drafts.front()),
                     "--draft");
    for (auto& spec : specs) spec.draft_max = engine.draft_max;
    for (auto const& argument : engine.drafts) HEARTH_CHECK(assign_draft(specs, argument, folders));
    return ok();
}

std::vector<std::string> own_models_folders(std::vector<std::string> const& given) {
    auto folders = given;
    if (auto const extra = variable("HEARTH_MODELS_DIR"); !extra.empty()) folders.push_back(extra);
    if (auto const cache = user_cache(); !cache.empty()) folders.push_back(cache + "/hearth/models");
    return folders;
}

std::vector<std::string> models_folders(std::vector<std::string> const& given, std::string const& data_dir) {
    auto folders = own_models_folders(given);
    for (auto& folder : catalog::imported_folders(data_folder(data_dir))) folders.push_back(std::move(folder));
    return folders;
}

std::vector<std::string> well_known_folders() {
    std::vector<std::string> folders;
    auto const add = [&](std::string const& base, std::string_view below) {
        std::error_code failed;
        auto const real =
            base.empty() ? std::filesystem::path() : std::filesystem::canonical(base + std::string(below), failed);
        if (base.empty() || failed || !std::filesystem::is_directory(real, failed)) return;
        if (std::ranges::find(folders, real.string()) == folders.end()) folders.push_back(real.string());
    };
    auto const home = variable("HOME");
    add(variable("OLLAMA_MODELS"), "");
    add(home, "/.ollama/models");
    add("/usr/share/ollama", "/.ollama/models");
    add(variable("HF_HUB_CACHE"), "");
    add(variable("HF_HOME"), "/hub");
    add(user_cache(), "/huggingface/hub");
    add(home, "/.lmstudio/models");
    add(home, "/.cache/lm-studio/models");
    return folders;
}

std::string data_folder(std::string const& given) {
    if (!given.empty()) return given;
    if (auto folder = variable("HEARTH_DATA_DIR"); !folder.empty()) return folder;
    auto data = variable("XDG_DATA_HOME");
    if (!data.starts_with('/')) data.clear();
    if (data.empty() && !variable("HOME").empty()) data = variable("HOME") + "/.local/share";
    return data.empty() ? data : data + "/hearth";
}

std::string quant_cache_folder(std::string const& given) {
    if (!given.empty()) return given;
    auto const cache = user_cache();
    return cache.empty() ? cache : cache + "/hearth/quantised";
}

NetworkEnvironment network_environment() {
    NetworkEnvironment network;
    network.hub_endpoint = variable("HF_ENDPOINT");
    network.hub_token = variable("HF_TOKEN");
    for (char const* const name : {"HTTPS_PROXY", "https_proxy", "ALL_PROXY"}) {
        if (network.proxy.empty()) network.proxy = variable(name);
    }
    network.no_proxy = variable("NO_PROXY");
    if (network.no_proxy.empty()) network.no_proxy = variable("no_proxy");
    network.ca_file = variable("SSL_CERT_FILE");
    return network;
}

Result<std::vector<catalog::KnownModel>> known_models(std::string const& file, std::string const& data_dir) {
    HEARTH_TRY(auto const builtin, catalog::parse_known_models(catalog::builtin_known_models()));
    auto path = file;
    if (path.empty()) {
        auto const folder = data_folder(data_dir);
        path = folder + "/known-models.json";
        std::error_code missing;
        if (folder.empty() || !std::filesystem::exists(path, missing)) return catalog::merge_known_models({}, builtin);
    }
    HEARTH_TRY(auto const text, read_known_list(path));
    auto own = catalog::parse_known_models(text);
    if (!own) return Error(own.error().code, fmt::format("'{}': {}", path, own.error().message), "--known-models");
    return catalog::merge_known_models(std::move(own).value(), builtin);
}

Result<library::Network> network_settings() {
    auto const environment = network_environment();
    library::Network network;
    network.client.user_agent = "hearth/" HEARTH_VERSION;
    network.client.ca_file = environment.ca_file;
    network.client.no_proxy = environment.no_proxy;
    if (!environment.hub_endpoint.empty()) network.hub.endpoint = environment.hub_endpoint;
    network.hub.token = environment.hub_token;
    if (environment.proxy.empty()) return network;
    HEARTH_TRY(network.client.proxy, fetch::parse_url(environment.proxy));
    if (network.client.proxy->tls)
        return Error(Code::invalid_argument, "the proxy must be an http:// address, got '" + environment.proxy + "'");
    return network;
}

std::string executable_path() {
    char path[PATH_MAX];
    auto const length = ::readlink("/proc/self/exe", path, sizeof path);
    return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : std::string("hearth");
}

std::vector<std::string> worker_environment() {
    std::vector<std::string> kept;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        std::string_view const text(*entry);
        for (std::string_view prefix : {"ASAN_", "UBSAN_", "TSAN_", "LSAN_", "LLVM_PROFILE_FILE="}) {
            if (text.starts_with(prefix)) kept.emplace_back(text);
        }
    }
    return kept;
}

std::int64_t unix_seconds() {
    auto const now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

std::int64_t unix_nanoseconds() {
    auto const now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

Result<Address> ollama_address() { return parse_ollama_host(variable("OLLAMA_HOST")); }
Result<std::vector<std::string>> ollama_origins() { return parse_ollama_origins(variable("OLLAMA_ORIGINS")); }

Result<Address> server_address(std::string const& given) {
    auto const text = given.empty() ? variable("HEARTH_HOST") : given;
    HEARTH_TRY(auto address, parse_ollama_host(text));
    if (text.ends_with(fmt::format(":{}", address.port))) return address;
    address.port = 8080;
    auto const port = variable("HEARTH_PORT");
    if (port.empty()) return address;
    auto const [end, failed] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (failed == std::errc{} && end == port.data() + port.size() && address.port != 0) return address;
    return Error(Code::invalid_argument, fmt::format("HEARTH_PORT must be 1 to 65535, got '{}'", port), "HEARTH_PORT");
}

std::string random_suffix() {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // The device is the kernel's generator; one read seeds many draws cheaply.
    static thread_local std::mt19937_64 generator{[] {
        std::random_device device;
        std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
        return std::mt19937_64(seed);
    }()};
    std::uniform_int_distribution<std::size_t> pick(0, kAlphabet.size() - 1);
    std::string out(24, ' ');
    for (auto& c : out) c = kAlphabet[pick(generator)];
    return out;
}

// What the model's note or manifest says of it; its context, where no flag does; and its
// template, where that is known.
static Status define(serving::ModelSpec& spec, std::string const& path, std::vector<std::string> const& folders) {
    HEARTH_TRY(auto definition, catalog::definition_of(spec.id, path, folders));
    if (auto const parameters = modelfile::from_options(definition.options); parameters && spec.context_request == 0) {
        for (auto const& [name, value] : *parameters)
            if (name == "num_ctx") std::from_chars(value.data(), value.data() + value.size(), spec.context_request);
    }
    if (auto const* const known = modelfile::find_known_template(definition.template_text)) {
        spec.chat_template = known->jinja;
    }
    spec.definition = std::make_shared<modelfile::Definition const>(std::move(definition));
    return ok();
}

Status check_no_folder(std::string const& path) {
    std::error_code failed;
    if (!std::filesystem::is_directory(path, failed)) return ok();
    return Error(
        Code::unsupported,
        fmt::format("{0} is a folder of safetensors, and this takes a file; `hearth convert {0}` makes one", path),
        "model");
}

Result<serving::ModelSpec> model_spec(std::string const& argument, std::vector<std::string> const& folders,
                                      EngineFlags const& engine, std::string const& weights) {
    std::string id;
    auto file = argument;
    // "ID=FILE" names the model; a path that really contains '=' wins.
    if (auto const equals = argument.find('='); equals != std::string::npos && ::access(argument.c_str(), F_OK) != 0) {
        id = argument.substr(0, equals);
        file = argument.substr(equals + 1);
        if (id.empty())
            return Error(Code::invalid_argument, fmt::format("'{}' names no model before '='", argument), "--model");
    }
    HEARTH_TRY(auto located, catalog::locate(file, folders));
    return spec_of(id.empty() ? std::move(located.id) : std::move(id), located.path, folders, engine, weights);
}

// Of the weights, what stays as it lies in the file for the kernels: pages that all its workers share.
static std::uint64_t shared_weights(std::vector<models::GgufFile> const& files, EngineFlags const& engine) {
    auto const variant = llama::choose_cpu_variant(engine.cpu_variant);
    if (!variant) return 0;  // its workers say why none of them starts
    std::uint64_t bytes = 0;
    for (auto const& file : files)
        for (auto const& tensor : file.tensors)
            if (engine.deterministic || !llama::may_pack(*variant, models::ggml_type_name(tensor.type)))
                bytes += tensor.bytes;
    return bytes;
}

// Each of its workers gets an equal part of the budget beside what they share, and holds the adapters.
static void fit(serving::ModelSpec& spec, std::vector<models::GgufFile> const& files, EngineFlags const& engine) {
    spec.kv_cells = engine.kv_cells;
    spec.shared_bytes = shared_weights(files, engine);
    std::uint64_t cells =
        spec.kv_cells != 0 ? spec.kv_cells : models::default_cells(files.front(), spec.context_request);
    if (spec.kv_cells == 0 && engine.memory_bytes != 0) {
        // What it takes in the end may be that much more than it was thought to.
        auto const sure = engine.memory_bytes / 100 * (100 - models::kEstimateErrorPercent);
        auto const shared = std::min(spec.shared_bytes, sure);
        auto const part = (sure - shared) / spec.instances + shared;
        auto const left = part - std::min(spec.adapter_bytes, part);
        auto const fitting = models::cells_within(files, spec.context_request, models::kBatchDefault, left);
        if (fitting < cells) spec.kv_cells = static_cast<std::uint32_t>(fitting);
        cells = fitting;
    }
    if (spec.kv_cells != 0) spec.context_default = std::min(spec.context_default, spec.kv_cells);
    auto const need = models::estimate_memory(files, cells, models::kBatchDefault);
    spec.memory_bytes = need.total() + spec.adapter_bytes;
    spec.weights_bytes = need.weights;
    spec.scratch_bytes = need.scratch;
    spec.process_bytes = need.process;
}

Result<EngineFlags> engine_for(std::string const& path, EngineFlags engine) {
    HEARTH_TRY(auto const files, models::read_gguf_model(path));
    auto const context = models::describe_model(files).context_train;
    if (context > 0 && engine.context > context) engine.context = static_cast<std::uint32_t>(context);
    return engine;
}

Status fit_cache(serving::ModelSpec& spec, EngineFlags const& engine) {
    HEARTH_TRY(auto const files, models::read_gguf_model(spec.path));
    fit(spec, files, engine);
    return ok();
}

Result<serving::ModelSpec> spec_of(std::string id, std::string const& path, std::vector<std::string> const& folders,
                                   EngineFlags const& engine, std::string const& weights) {
    HEARTH_CHECK(check_file(weights.empty() ? path : weights));
    serving::ModelSpec spec;
    spec.id = std::move(id);
    spec.context_request = engine.context;
    HEARTH_CHECK(define(spec, path, folders));
    spec.path = weights.empty() ? path : weights;
    HEARTH_TRY(auto const files, models::read_gguf_model(spec.path));
    auto const trained = models::describe_model(files).context_train;
    // What a model says of itself may be more than it has, as with Ollama; what --ctx says is an error then.
    if (engine.context == 0 && trained > 0)
        spec.context_request = static_cast<std::uint32_t>(std::min<std::uint64_t>(spec.context_request, trained));
    spec.context_default = static_cast<std::uint32_t>(std::min<std::uint64_t>(trained, kContextDefault));
    HEARTH_CHECK(add_own_adapters(spec));
    fit(spec, files, engine);
    spec.sequences_max = engine.max_seqs;
    spec.threads = engine.threads;
    spec.prefix_cache = engine.no_prefix_cache ? 0 : 1;
    spec.speculation = engine.no_speculation ? 0 : 1;
    spec.step_ms_target = engine.step_target_ms;
    spec.deterministic = engine.deterministic ? 1 : 0;
    spec.cpu_variant = engine.cpu_variant;
    HEARTH_CHECK(fill_cache(spec, engine));
    return spec;
}

Result<std::uint64_t> parse_size(std::string const& text, std::string const& flag) {
    struct Unit {
        std::string_view name;
        std::uint64_t bytes;
    };
    constexpr std::array kUnits{Unit{"", 1},
                                Unit{"B", 1},
                                Unit{"KiB", 1ULL << 10},
                                Unit{"MiB", 1ULL << 20},
                                Unit{"GiB", 1ULL << 30},
                                Unit{"TiB", 1ULL << 40}};
    double number = 0;
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    std::string_view const name(end, static_cast<std::size_t>(text.data() + text.size() - end));
    auto const* const unit = std::ranges::find(kUnits, name, &Unit::name);
    bool const good = failed == std::errc{} && unit != kUnits.end() && number >= 0 &&
                      number * static_cast<double>(unit->bytes) <= 0x1p50;
    if (good) return static_cast<std::uint64_t>(number * static_cast<double>(unit->bytes));
    return Error(Code::invalid_argument,
                 fmt::format("{} must be a size up to 1024TiB like 512MiB or 4GiB, or 0; got '{}'", flag, text), flag);
}

Result<kvstore::SealKey> read_cache_key(std::string const& path) {
    std::string const flag = "--cache-key-file";
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0)
        return Error(Code::invalid_argument, fmt::format("cannot read {} '{}': {}", flag, path, std::strerror(errno)),
                     flag);
    if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return Error(Code::invalid_argument,
                     fmt::format("'{}' may be read by others; `chmod 600 {}` makes it a secret", path, path), flag);
    std::ifstream file(path);
    std::string text;
    file >> text;
    kvstore::SealKey key{};
    bool good = text.size() == 2 * key.size();
    for (std::size_t i = 0; good && i < key.size(); ++i) {
        unsigned value = 0;
        auto const* const digits = text.data() + 2 * i;
        good = std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2;
        key[i] = static_cast<std::byte>(value);
    }
    if (!good)
        return Error(
            Code::invalid_argument,
            fmt::format(
                "'{}' must hold {} hexadecimal digits (`openssl rand -hex 32` makes them), it holds {} characters",
                path, 2 * key.size(), text.size()),
            flag);
    return key;
}

Result<std::vector<std::string>> read_public_prefixes(std::vector<std::string> const& paths) {
    std::string const flag = "--public-prefix";
    constexpr std::size_t kBytesMax = engine::kPublicPrefixBytesMax;
    if (paths.size() > engine::kPublicPrefixesMax) {
        return Error(
            Code::invalid_argument,
            fmt::format("{} is given {} times, the limit is {}", flag, paths.size(), engine::kPublicPrefixesMax), flag);
    }
    std::vector<std::string> texts;
    for (auto const& path : paths) {
        std::ifstream file(path, std::ios::binary);
        std::string text(kBytesMax + 3, '\0');  // of a longer one enough is read to see that
        file.read(text.data(), static_cast<std::streamsize>(text.size()));
        if (!file.is_open() || file.bad()) {
            return Error(Code::invalid_argument,
                         fmt::format("cannot read {} '{}': {}", flag, path, std::strerror(errno)), flag);
        }
        text.resize(static_cast<std::size_t>(file.gcount()));
        if (text.ends_with('\n')) text.pop_back();
        if (text.ends_with('\r')) text.pop_back();
        bool const is_text = is_valid_utf8(text) && text.find('\0') == std::string::npos;
        if (text.empty() || text.size() > kBytesMax || !is_text) {
            return Error(
                Code::invalid_argument,
                fmt::format("{} '{}' must hold UTF-8 text of 1 to {} bytes without NUL, it {}", flag, path, kBytesMax,
                            text.empty()              ? "is empty"
                            : text.size() > kBytesMax ? "holds more"
                                                      : "does not"),
                flag);
        }
        texts.push_back(std::move(text));
    }
    return texts;
}

telemetry::LogOptions log_options(LogFlags const& flags) {
    telemetry::LogOptions options;
    options.level = flags.debug ? telemetry::Level::debug : telemetry::Level::info;
    options.format = flags.format == "json" ? telemetry::Format::json : telemetry::Format::human;
    options.file = flags.file;
    options.color = flags.file.empty() && ::isatty(STDERR_FILENO) != 0;
    return options;
}

int write_out(std::string_view text) {
    errno = 0;
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return kExitOk;
    return report(Error(Code::io, fmt::format("cannot write to standard output: {}", std::strerror(errno))));
}

int report(Error const& error) {
    fmt::print(stderr, "hearth: {}\n", error.message);
    switch (error.code) {
        case Code::not_found: return kExitModelMissing;
        case Code::invalid_argument: return kExitUsage;
        case Code::cancelled: return kExitInterrupted;
        default: return kExitError;
    }
}

}  // namespace hearth::app
