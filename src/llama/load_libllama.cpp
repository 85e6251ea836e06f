#include <fcntl.h>
#include <fmt/format.h>
#include <ggml-backend.h>
#include <llama-ext.h>
#include <llama-model.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>
#include <fstream>
#include <optional>

#include "llama/compute_threads.h"
#include "llama/content_hash.h"
#include "llama/invariance.h"
#include "llama/kernels_revision.h"
#include "llama/libllama_backend.h"
#include "llama/libllama_impl.h"
#include "llama/runtime.h"
#include "llama/state_blob.h"

namespace hearth::llama {

namespace {

constexpr std::uint32_t kContextDefault = 8192;
constexpr std::uint32_t kCellsDefault = 32768;
constexpr std::uint32_t kCellsMax = 1U << 24;
constexpr std::uint32_t kCellGranule = 256;  // upstream rounds up to this
constexpr std::uint32_t kBatchMax = 8192;
constexpr std::uint32_t kThreadsMax = 512;  // GGML_MAX_N_THREADS
constexpr std::uint32_t kEmbedInputMax = 8192;

Status in_range(std::uint32_t value, std::uint32_t low, std::uint32_t high, char const* name) {
    if (value >= low && value <= high) return ok();
    return Error(Code::invalid_argument, fmt::format("{} must be {}..{}, not {}", name, low, high, value), name);
}

Status check_options(LoadOptions const& options) {
    HEARTH_CHECK(in_range(options.sequences_max, 1, static_cast<std::uint32_t>(llama_max_parallel_sequences()),
                          "sequences_max"));
    HEARTH_CHECK(in_range(options.batch_max, 1, kBatchMax, "batch_max"));
    HEARTH_CHECK(in_range(options.threads, 0, kThreadsMax, "threads"));
    return in_range(options.kv_cells, 0, kCellsMax, "kv_cells");
}

// Upstream would say no more than that loading failed.
Status check_readable(std::string const& path) {
    int const fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    int const why = errno;
    struct stat info{};
    bool const regular = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    if (fd >= 0) close(fd);
    if (fd < 0 && why == ENOENT) return Error(Code::not_found, fmt::format("there is no model file {}", path), "path");
    if (fd < 0) return Error(Code::io, fmt::format("cannot open {}: {}", path, std::strerror(why)), "path");
    if (!regular) return Error(Code::io, fmt::format("{} is not a regular file", path), "path");
    return ok();
}

std::uint64_t size_of(std::string const& path) {
    struct stat info{};
    return stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

// All splits when `path` is the first of several.
std::vector<std::string> split_paths(std::string const& path) {
    static constexpr std::string_view kSuffix = "-00001-of-00000.gguf";
    if (path.size() <= kSuffix.size()) return {path};
    std::string_view const tail = std::string_view(path).substr(path.size() - kSuffix.size());
    if (!tail.starts_with("-00001-of-") || !tail.ends_with(".gguf")) return {path};
    std::string const prefix = path.substr(0, path.size() - kSuffix.size());
    int count = 0;
    std::from_chars(tail.data() + 10, tail.data() + 15, count);
    std::vector<std::string> paths;
    for (int i = 1; i <= count; ++i) paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, count));
    return paths;
}

std::uint64_t file_bytes(std::string const& path) {
    std::uint64_t total = 0;
    for (auto const& part : split_paths(path)) total += size_of(part);
    return total;
}

Error load_error(std::string const& path, std::string const& reason) {
    auto const says = [&](std::string_view text) { return reason.find(text) != std::string::npos; };
    Code code = Code::corrupt;
    if (says("unknown model architecture") || says("unknown pre-tokenizer") || says("not supported") ||
        says("cannot be used as main model") || says("unknown tokenizer"))
        code = Code::unsupported;
    if (says("unable to allocate") || says("failed to allocate") || says("bad_alloc") || says("mmap failed"))
        code = Code::overloaded;
    return Error(code, fmt::format("cannot load {}: {}", path, reason.empty() ? "no reason given" : reason), "path");
}

Result<ModelPtr> load_model(LoadOptions const& options) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    params.load_mode = LLAMA_LOAD_MODE_MMAP;
    params.use_extra_bufts = !options.deterministic;  // layouts of upstream's, for kernels of several columns
    auto* const progress = &options.progress;
    params.progress_callback_user_data = const_cast<std::function<void(float)>*>(progress);
    params.progress_callback = [](float done, void* data) {
        auto const& report = *static_cast<std::function<void(float)>*>(data);
        if (report) report(std::min(done, 0.99F));  // 1 once the context stands
        return true;
    };
    ErrorCapture const capture;
    ModelPtr model(llama_model_load_from_file(options.path.c_str(), params));
    if (model == nullptr) return load_error(options.path, capture.text());
    if (options.deterministic) ask_column_wise(*model);
    return model;
}

std::string metadata(llama_model const& model, char const* key) {
    std::string value(256, '\0');
    auto count = llama_model_meta_val_str(&model, key, value.data(), value.size());
    if (count >= static_cast<std::int32_t>(value.size())) {
        value.resize(std::min<std::size_t>(static_cast<std::size_t>(count) + 1, 4096));
        count = llama_model_meta_val_str(&model, key, value.data(), value.size());
    }
    value.resize(
        static_cast<std::size_t>(std::clamp<std::int32_t>(count, 0, static_cast<std::int32_t>(value.size() - 1))));
    return value;
}

// "Q4_K - Medium" -> "Q4_K_M", "(guessed) Q8_0" -> "Q8_0", "all F32" -> "F32".
std::string quantization_name(std::string_view upstream) {
    constexpr std::string_view kGuessed = "(guessed) ", kAll = "all ";
    if (upstream.starts_with(kGuessed)) upstream.remove_prefix(kGuessed.size());
    if (upstream.starts_with(kAll)) upstream.remove_prefix(kAll.size());
    auto const dash = upstream.find(" - ");
    if (dash == std::string_view::npos) return std::string(upstream.substr(0, upstream.find(' ')));
    std::string name(upstream.substr(0, dash));
    auto const size = upstream.substr(dash + 3);
    if (size == "Small") name += "_S";
    if (size == "Medium") name += "_M";
    if (size == "Large") name += "_L";
    return name;
}

// Of a model that has a cache at all.
MemoryKind memory_kind(llama_model const& model) {
    if (llama_model_is_recurrent(&model) || llama_model_is_hybrid(&model)) return MemoryKind::recurrent;
    return llama_model_n_swa(&model) > 0 ? MemoryKind::window : MemoryKind::attention;
}

Status check_model(llama_model const& model, std::string const& architecture) {
    if (llama_model_has_encoder(&model) && llama_model_has_decoder(&model))
        return Error(Code::unsupported, fmt::format("{}: models with encoder and decoder are not served", architecture),
                     "path");
    if (llama_model_is_diffusion(&model))
        return Error(Code::unsupported, fmt::format("{}: diffusion models are not served", architecture), "path");
    return ok();
}

// Free memory, page cache included; 0 when the system does not say.
std::uint64_t available_bytes() {
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("MemAvailable:")) return std::strtoull(line.c_str() + 13, nullptr, 10) << 10;
    struct sysinfo info{};
    return sysinfo(&info) == 0 ? static_cast<std::uint64_t>(info.freeram) * info.mem_unit : 0;
}

// Bytes one cell takes, from the shapes upstream and the file tell; of models
// whose layers differ, as if all were like the first.
std::uint64_t cell_bytes(llama_model const& model) {
    auto const embedding = static_cast<std::uint64_t>(std::max(1, llama_model_n_embd(&model)));
    auto const heads = static_cast<std::uint64_t>(std::max(1, llama_model_n_head(&model)));
    auto const kv_heads = static_cast<std::uint64_t>(std::max(1, llama_model_n_head_kv(&model)));
    auto const layers = static_cast<std::uint64_t>(std::max(1, llama_model_n_layer(&model)));
    constexpr std::uint64_t kHalf = 2;
    // Heads are as wide as the embedding has room for, unless the file says otherwise.
    auto const architecture = metadata(model, "general.architecture");
    auto const width = [&](std::string_view key) {
        auto const text = metadata(model, fmt::format("{}.attention.{}_length", architecture, key).c_str());
        std::uint64_t value = 0;
        std::from_chars(text.data(), text.data() + text.size(), value);
        return value > 0 ? value : embedding / heads;
    };
    return layers * kv_heads * (width("key") + width("value")) * kHalf;
}

struct CacheShape {
    std::uint32_t context_request = 0;
    std::uint32_t cells = 0;
};

Result<CacheShape> cache_shape(LoadOptions const& options, llama_model const& model) {
    auto const trained = static_cast<std::uint32_t>(std::max(1, llama_model_n_ctx_train(&model)));
    CacheShape shape;
    shape.context_request = options.context_request;
    if (shape.context_request == 0) {
        shape.context_request =
            std::min(trained, options.context_default != 0 ? options.context_default : kContextDefault);
        if (options.kv_cells != 0) shape.context_request = std::min(shape.context_request, options.kv_cells);
    }
    if (shape.context_request > trained)
        return Error(Code::invalid_argument,
                     fmt::format("context_request {} is more than the {} tokens the model was trained on",
                                 shape.context_request, trained),
                     "context_request");
    if (options.kv_cells != 0 && options.kv_cells < shape.context_request)
        return Error(
            Code::invalid_argument,
            fmt::format("kv_cells {} cannot hold one request of {} tokens", options.kv_cells, shape.context_request),
            "kv_cells");
    shape.cells = options.kv_cells != 0 ? options.kv_cells : std::max(shape.context_request, kCellsDefault);
    // By default no more cells than half of the free memory holds.
    if (std::uint64_t const available = available_bytes(); options.kv_cells == 0 && available != 0) {
        std::uint64_t const fit = available / 2 / cell_bytes(model);
        if (fit < shape.cells) shape.cells = std::max(shape.context_request, static_cast<std::uint32_t>(fit));
    }
    shape.cells = (shape.cells + kCellGranule - 1) / kCellGranule * kCellGranule;
    return shape;
}

// One number for an input comes out of such a head; upstream would read it from vectors without.
bool ranks(llama_model const& model, std::string const& architecture) {
    constexpr std::string_view kRank = "4";
    if (metadata(model, fmt::format("{}.pooling_type", architecture).c_str()) != kRank) return false;
    return std::ranges::any_of(llama_internal_get_tensor_map(&model),
                               [](auto const& named) { return named.first == "cls.output.weight"; });
}

// Ranking models have no vectors to give.
bool declares_pooling(llama_model const& model, std::string const& architecture) {
    auto const pooling = metadata(model, fmt::format("{}.pooling_type", architecture).c_str());
    return !pooling.empty() && pooling != "0" && pooling != "4";
}

llama_flash_attn_type flash_attention(FlashAttention choice) {
    switch (choice) {
        case FlashAttention::on: return LLAMA_FLASH_ATTN_TYPE_ENABLED;
        case FlashAttention::off: return LLAMA_FLASH_ATTN_TYPE_DISABLED;
        case FlashAttention::automatic: break;
    }
    return LLAMA_FLASH_ATTN_TYPE_AUTO;
}

// Those that run, and as many as there may be to keep. Of a model with a window
// each has a guard (libllama_backend.cpp), which takes an id of upstream's too.
std::uint32_t sequence_ids(llama_model const& model, LoadOptions const& options) {
    // A batch must have room for an output of each id.
    auto ids_max = std::min(static_cast<std::uint32_t>(llama_max_parallel_sequences()), options.batch_max);
    ids_max -= 1;  // for LibllamaBackend::spare()
    if (memory_kind(model) == MemoryKind::window) ids_max /= 2;
    return std::max(options.sequences_max, std::min(options.sequences_max + options.sequences_kept, ids_max));
}

// With the guards.
std::uint32_t upstream_ids(llama_model const& model, LoadOptions const& options) {
    return sequence_ids(model, options) * (memory_kind(model) == MemoryKind::window ? 2 : 1);
}

bool has_spare_id(llama_model const& model, LoadOptions const& options) {
    return upstream_ids(model, options) < std::min<std::size_t>(llama_max_parallel_sequences(), options.batch_max);
}

Result<ContextPtr> make_context(llama_model& model, LoadOptions const& options, CacheShape const& shape,
                                std::uint32_t threads) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = shape.cells;
    params.n_batch = options.batch_max;
    params.n_ubatch = options.batch_max;
    params.n_seq_max = upstream_ids(model, options) + (has_spare_id(model, options) ? 1 : 0);
    params.n_threads = static_cast<std::int32_t>(threads);
    params.n_threads_batch = params.n_threads;
    params.flash_attn_type = flash_attention(options.flash_attention);
    params.kv_unified = true;  // cells are shared by all sequences
    params.swa_full = true;  // or the past is gone that others could stand on; untouched cells cost nothing
    params.offload_kqv = false;
    params.op_offload = false;
    params.no_perf = true;
    ErrorCapture const capture;
    ContextPtr context(llama_init_from_model(&model, params));
    if (context == nullptr) return load_error(options.path, capture.text());
    return context;
}

MemoryEstimate measured_memory(llama_model const& model, llama_context const* context) {
    MemoryEstimate memory{.weights = llama_model_size(&model)};
    if (context == nullptr) return memory;
    for (auto const& [type, bytes] : llama_get_memory_breakdown(context)) {
        memory.kv += bytes.context;
        memory.scratch += bytes.compute;
    }
    return memory;
}

Result<ChatTemplate> load_template(llama_model const& model, LoadOptions const& options, Vocabulary const& vocabulary) {
    char const* const own = llama_model_chat_template(&model, nullptr);
    char const* const source = options.chat_template.empty() ? own : options.chat_template.c_str();
    if (source == nullptr || *source == '\0')
        return Error(Code::unsupported, "the model has no chat template; use completions", "messages");
    return ChatTemplate::create(source, vocabulary.bos_text(), vocabulary.eos_text());
}

domain::ModelInfo describe(llama_model const& model, LoadOptions const& options, std::string architecture) {
    domain::ModelInfo info;
    info.architecture = std::move(architecture);
    info.name = metadata(model, "general.name");
    info.quantization = quantization_name(llama_ftype_name(llama_model_ftype(&model)));
    info.parameters = llama_model_n_params(&model);
    info.file_bytes = file_bytes(options.path);
    info.vocabulary = static_cast<std::uint32_t>(llama_vocab_n_tokens(llama_model_get_vocab(&model)));
    info.embedding = static_cast<std::uint32_t>(llama_model_n_embd_out(&model));
    info.context_train = static_cast<std::uint32_t>(llama_model_n_ctx_train(&model));
    char const* const source = llama_model_chat_template(&model, nullptr);
    info.chat_template = !options.chat_template.empty() || (source != nullptr && *source != '\0');
    return info;
}

// Names everything that the layout of a saved state depends on.
std::uint64_t fingerprint(domain::ModelInfo const& info, LoadOptions const& options, MemoryKind kind) {
    return state_fingerprint(fmt::format("{} {} {} {} {} {} {} fa{} k{}", llama_version(), ggml_commit(),
                                         LLAMA_STATE_SEQ_VERSION, info.architecture, info.name, info.parameters,
                                         info.file_bytes, static_cast<int>(flash_attention(options.flash_attention)),
                                         static_cast<int>(kind)));
}

// Empty if what the files hold is not known.
std::string state_key(llama_model const& model, domain::ModelInfo const& info, std::uint64_t fingerprint,
                      LoadOptions const& options, std::string const& content) {
    if (content.empty()) return {};
    auto const defaults = llama_context_default_params();
    return fmt::format("llama.cpp {:016x} file{} k {} v {} rope {} {} kernels {} {}{}", fingerprint, content,
                       static_cast<int>(defaults.type_k), static_cast<int>(defaults.type_v),
                       static_cast<int>(llama_model_rope_type(&model)), llama_model_rope_freq_scale_train(&model),
                       info.cpu_variant, kernels_revision(), options.deterministic ? " by column" : "");
}

void set_abilities(Properties& properties, MemoryKind kind) {
    properties.can_share_cells = kind == MemoryKind::attention || kind == MemoryKind::window;
    properties.can_truncate = properties.can_share_cells;
    properties.needs_checkpoints = kind == MemoryKind::recurrent;
    properties.mixing_saves_nothing = kind == MemoryKind::recurrent;  // upstream cuts a batch by lengths
    properties.can_interrupt = properties.can_truncate;
    properties.restores_whole = kind != MemoryKind::window;
}

// Each has a guard.
Status check_sequences(MemoryKind kind, LoadOptions const& options) {
    auto const most = static_cast<std::uint32_t>(llama_max_parallel_sequences()) / 2;
    if (kind != MemoryKind::window || options.sequences_max <= most) return ok();
    return Error(
        Code::invalid_argument,
        fmt::format("models with a sliding window run at most {} sequences, not {}", most, options.sequences_max),
        "sequences_max");
}

// What it computes: text, vectors, or how well a document answers.
void describe_uses(llama_model const& model, std::string const& architecture, BackendParts& parts,
                   domain::ModelInfo& info) {
    info.generates = parts.kind != MemoryKind::none;
    info.infills = parts.vocabulary->infills();
    info.embeds = declares_pooling(model, architecture);
    info.ranks = ranks(model, architecture);
    info.embed_tokens_max = parts.embed_input_max;
    char const* const form = info.ranks ? llama_model_chat_template(&model, "rerank") : nullptr;
    if (form != nullptr) parts.rank_template = form;
}

// As many threads as the model is worth, where nobody said how many.
Status make_pool(llama_model const& model, LoadOptions const& options, BackendParts& parts, domain::ModelInfo& info) {
    info.threads = options.threads != 0
                       ? options.threads
                       : threads_for(llama_model_size(&model), static_cast<std::uint32_t>(llama_model_n_layer(&model)),
                                     options.cores == 0 ? usable_cores() : options.cores);
    auto const cpus = cpu_per_thread(info.threads);
    if (!cpus.empty()) parts.cpu = cpus.back();
    parts.pool = make_thread_pool(info.threads, cpus);
    if (parts.pool != nullptr) return ok();
    return Error(Code::overloaded, fmt::format("the system refuses {} compute threads", info.threads), "threads");
}

Result<std::unique_ptr<Backend>> load_parts(LoadOptions const& options, std::string const& variant) {
    std::optional<ContentHash> content;
    if (options.names_states) content.emplace(split_paths(options.path));
    auto pages = WeightPages::open(split_paths(options.path));
    HEARTH_TRY(ModelPtr model, load_model(options));
    pages.attach(*model);
    std::string const architecture = metadata(*model, "general.architecture");
    HEARTH_CHECK(check_model(*model, architecture));
    HEARTH_TRY(Vocabulary vocabulary, Vocabulary::create(*model));
    HEARTH_TRY(CacheShape const shape, cache_shape(options, *model));

    // Before there is a context: upstream sizes its graphs by them.
    HEARTH_TRY(LoadedAdapters adapters, load_adapters(*model, options.adapters));
    if (options.deterministic) ask_column_wise(adapters.files);

    BackendParts parts;
    parts.pages = std::move(pages);
    parts.vocabulary = std::make_unique<Vocabulary>(std::move(vocabulary));
    parts.kind = memory_kind(*model);
    parts.window = static_cast<std::uint32_t>(std::max(0, llama_model_n_swa(model.get())));
    domain::ModelInfo info = describe(*model, options, architecture);
    info.cpu_variant = variant;
    HEARTH_CHECK(make_pool(*model, options, parts, info));
    HEARTH_CHECK(check_sequences(parts.kind, options));

    Properties& properties = parts.properties;
    properties.batch_max = options.batch_max;
    properties.sequences_max = sequence_ids(*model, options);
    properties.kv_cells = shape.cells;
    parts.make_context = [model = model.get(), options, shape, threads = info.threads] {
        return make_context(*model, options, shape, threads);
    };
    HEARTH_TRY(parts.context, parts.make_context());
    if (llama_get_memory(parts.context.get()) == nullptr) {
        parts.kind = MemoryKind::none;  // an encoder
        parts.context.reset();
    } else {
        llama_attach_threadpool(parts.context.get(), parts.pool.get(), parts.pool.get());
        // A recurrent model may have no cells at all.
        bool const in_order = parts.cache_positions.attach(*parts.context) || llama_model_is_recurrent(model.get());
        if (in_order) info.determinism = determinism(*model, *parts.context, architecture, adapters.files);
        properties.batch_max = llama_n_batch(parts.context.get());
        properties.kv_cells = llama_n_ctx(parts.context.get());
    }
    parts.memory = measured_memory(*model, parts.context.get());
    parts.memory.weights += adapters.bytes;
    info.context_request = shape.context_request;
    info.kv_cells = properties.kv_cells;
    info.sequences_max = options.sequences_max;
    info.kv_bytes = parts.memory.kv;
    info.shared_bytes = parts.pages.shared_bytes();
    info.memory_bytes = parts.memory.weights + parts.memory.kv + parts.memory.scratch;
    properties.vocabulary = info.vocabulary;
    set_abilities(properties, parts.kind);
    parts.chat_template = load_template(*model, options, *parts.vocabulary);
    parts.embed_input_max = std::min(shape.context_request, kEmbedInputMax);
    describe_uses(*model, architecture, parts, info);
    parts.has_cells = !llama_model_is_recurrent(model.get());
    // A state beside a window: its images cannot be cut.
    bool const mixed = parts.kind == MemoryKind::recurrent && parts.window > 0;
    properties.saves_parts = parts.context != nullptr && has_spare_id(*model, options) && !mixed;
    parts.fingerprint = fingerprint(info, options, parts.kind);
    parts.state_key = state_key(*model, info, parts.fingerprint, options, content ? content->take() : "");
    parts.adapters = std::move(adapters.sets);
    properties.adapters = std::move(adapters.keys);
    properties.info = std::move(info);
    parts.model = std::move(model);
    return std::unique_ptr<Backend>(std::make_unique<LibllamaBackend>(std::move(parts)));
}

}  // namespace

Result<std::unique_ptr<Backend>> load_libllama(LoadOptions const& options) {
    HEARTH_CHECK(check_options(options));
    HEARTH_CHECK(check_readable(options.path));
    HEARTH_TRY(std::string const variant, start_runtime(options.cpu_variant, options.log));
    AbortsThrow const aborts_throw;  // what the file makes upstream assert is an error here
    try {
        auto backend = load_parts(options, variant);
        if (backend && options.progress) options.progress(1.0F);
        return backend;
    } catch (std::exception const& e) {
        return load_error(options.path, e.what());
    }
}

std::string upstream_version() { return llama_version(); }

}  // namespace hearth::llama
