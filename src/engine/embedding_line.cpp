#include "engine/embedding_line.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"

namespace hearth::engine {
namespace {

// How much the last batch says of what a token takes.
constexpr double kNewest = 0.3;

std::uint64_t tokens_of(PreparedRequest const& spec) {
    std::uint64_t tokens = 0;
    for (auto const& input : spec.inputs) tokens += input.size();
    return tokens;
}

// `field`: which of the request's fields set the limit.
Error late(char const* what, double ms, std::uint32_t limit, char const* field) {
    return {Code::deadline_exceeded,
            fmt::format("{} took {:.0f} ms, the limit of this request is {} ms", what, ms, limit), field};
}

}  // namespace

EmbeddingLine::EmbeddingLine(llama::Backend& backend, Clock const& clock, double token_ms)
    : backend_(backend), clock_(clock), token_ms_(token_ms) {}

void EmbeddingLine::add(PreparedRequest prepared) {
    HEARTH_ASSERT(!prepared.inputs.empty(), "a request to embed has inputs");
    requests_.push_back(std::make_unique<Request>(std::move(prepared)));
}

bool EmbeddingLine::cancel(RequestId id) {
    auto const same = [id](auto const& request) { return request->spec.id == id; };
    auto const found = std::find_if(requests_.begin(), requests_.end(), same);
    if (found == requests_.end()) return false;
    end_cancelled(**found);
    sweep();
    return true;
}

void EmbeddingLine::cancel_all() {
    for (auto const& request : requests_) end_cancelled(*request);
    sweep();
}

std::uint32_t EmbeddingLine::begun() const {
    return static_cast<std::uint32_t>(
        std::count_if(requests_.begin(), requests_.end(), [](auto const& request) { return request->began; }));
}

std::uint32_t EmbeddingLine::waiting() const { return static_cast<std::uint32_t>(requests_.size()) - begun(); }

// --- computing ---

void EmbeddingLine::take(double ms, RankOf const& rank_of, Charge const& charge) {
    if (requests_.empty()) return;
    sort(rank_of);
    gather(ms);
    auto const status = compute(items_, charge);
    if (!status) compute_one_by_one(charge);
    sweep();
}

void EmbeddingLine::sort(RankOf const& rank_of) {
    std::vector<std::pair<Rank, std::unique_ptr<Request>>> ranked;
    ranked.reserve(requests_.size());
    for (auto& request : requests_) {
        auto const rank = rank_of(request->spec);
        ranked.emplace_back(rank, std::move(request));
    }
    std::sort(ranked.begin(), ranked.end(), [](auto const& a, auto const& b) { return a.first < b.first; });
    for (std::size_t i = 0; i < ranked.size(); ++i) requests_[i] = std::move(ranked[i].second);
}

// The batch: in order of rank, until the next input would make it too long.
void EmbeddingLine::gather(double ms) {
    items_.clear();
    auto const now = clock_.now();
    std::size_t tokens = 0;
    for (auto const& request : requests_) {
        if (request->spec.adapters != requests_.front()->spec.adapters) continue;
        for (std::size_t i = request->vectors.size(); i < request->spec.inputs.size(); ++i) {
            auto const more = request->spec.inputs[i].size();
            bool const fits = items_.size() < kInputsMax && tokens + more <= kTokensMax &&
                              static_cast<double>(tokens + more) * token_ms_ <= ms;
            if (!items_.empty() && !fits) return;
            tokens += more;
            begin(*request, now);
            items_.push_back({request.get(), i});
        }
    }
}

void EmbeddingLine::begin(Request& request, Instant now) {
    if (request.began) return;
    request.began = now;
    push(request, domain::Started{static_cast<std::uint32_t>(tokens_of(request.spec)), 0});
}

Status EmbeddingLine::compute(std::vector<Item> const& items, Charge const& charge) {
    std::vector<std::vector<Token>> inputs;
    inputs.reserve(items.size());
    std::size_t tokens = 0;
    for (auto const& item : items) tokens += inputs.emplace_back(item.request->spec.inputs[item.input]).size();
    auto const began = clock_.now();
    HEARTH_CHECK(backend_.use_adapters(items.front().request->spec.adapters));
    auto vectors = backend_.embed(inputs);
    if (!vectors) return std::move(vectors).error();
    auto const ms = to_ms(clock_.now() - began);
    us_total_ += static_cast<std::uint64_t>(ms * 1000);
    tokens_total_ += tokens;
    if (ms > 0) token_ms_ += kNewest * (ms / static_cast<double>(tokens) - token_ms_);
    for (std::size_t i = 0; i < items.size(); ++i) {
        auto& request = *items[i].request;
        if (request.ended) continue;
        auto const is_number = [](float value) { return std::isfinite(value); };
        if (!std::all_of((*vectors)[i].begin(), (*vectors)[i].end(), is_number)) {
            fail(request, Error(Code::internal, "the model gave an embedding that holds no numbers"));
            continue;
        }
        charge(request.spec.tenant, static_cast<double>(inputs[i].size()));
        request.vectors.push_back(std::move((*vectors)[i]));
        if (request.vectors.size() == request.spec.inputs.size()) finish(request);
    }
    return ok();
}

// What makes a batch fail is one request's, or the machine's.
void EmbeddingLine::compute_one_by_one(Charge const& charge) {
    std::vector<Item> own;
    for (std::size_t begin = 0; begin < items_.size();) {
        own.clear();
        auto* const request = items_[begin].request;
        while (begin < items_.size() && items_[begin].request == request) own.push_back(items_[begin++]);
        if (auto const status = compute(own, charge); !status) fail(*request, status.error());
    }
}

// --- ends ---

void EmbeddingLine::finish(Request& request) {
    auto const now = clock_.now();
    domain::Done done;
    done.usage.prompt_tokens = static_cast<std::uint32_t>(tokens_of(request.spec));
    done.usage.left_out_tokens = request.spec.left_out;
    done.timings.prompt_n = done.usage.prompt_tokens;
    done.timings.prompt_ms = to_ms(now - *request.began);
    done.timings.queue_ms = to_ms(*request.began - request.spec.arrived);
    push(request, domain::Embedded{std::move(request.vectors)});
    push(request, domain::ChoiceDone{0, domain::FinishReason::stop, {}});
    push(request, done);
    request.ended = true;
}

void EmbeddingLine::end_cancelled(Request& request) {
    if (request.ended) return;
    push(request, domain::ChoiceDone{0, domain::FinishReason::cancelled, {}});
    push(request, domain::Done{});
    request.ended = true;
}

void EmbeddingLine::fail(Request& request, Error error) {
    if (request.ended) return;
    push(request, domain::Failed{std::move(error)});
    request.ended = true;
}

void EmbeddingLine::push(Request const& request, domain::Event event) {
    events_.push_back({request.spec.id, std::move(event)});
}

void EmbeddingLine::sweep() {
    std::erase_if(requests_, [this](auto const& request) {
        if (request->ended) left_.push_back(std::move(request->spec.tenant));
        return request->ended;
    });
}

void EmbeddingLine::expire(Instant now) {
    for (auto const& request : requests_) {
        auto const& limits = request->spec.deadlines;
        auto const& limit = request->began ? limits.prefill_ms : limits.queue_ms;
        if (!limit) continue;
        double const ms = to_ms(now - (request->began ? *request->began : request->spec.arrived));
        if (ms < *limit) continue;
        fail(*request, request->began ? late("computing the inputs", ms, *limit, "prefill_timeout_ms")
                                      : late("waiting for its turn", ms, *limit, "queue_timeout_ms"));
    }
    sweep();
}

std::optional<Instant> EmbeddingLine::next_deadline() const {
    std::optional<Instant> next;
    for (auto const& request : requests_) {
        auto const& limits = request->spec.deadlines;
        auto const& limit = request->began ? limits.prefill_ms : limits.queue_ms;
        if (!limit) continue;
        Instant const at =
            (request->began ? *request->began : request->spec.arrived) + std::chrono::milliseconds(*limit);
        if (!next || at < *next) next = at;
    }
    return next;
}

std::vector<StepEvent> EmbeddingLine::take_events() { return std::exchange(events_, {}); }
std::vector<std::string> EmbeddingLine::take_left() { return std::exchange(left_, {}); }

}  // namespace hearth::engine
