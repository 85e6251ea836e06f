// Whether the model is loaded: what the pool's plan looks at, and what is done about it.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "serving/model.h"
#include "telemetry/log.h"

namespace hearth::serving {
namespace {

// Longer is for ever: an Instant ends some day.
constexpr Duration kKeepAliveMax = std::chrono::hours(24 * 365 * 10);
// Who had a model loaded without a request asks it something within that time.
constexpr Duration kUnaskedMin = std::chrono::seconds(2);

}  // namespace

// Before it was loaded what its file tells; afterwards what it took when it was ready, and what
// it reserved and had not touched yet; and never less than what it takes now. What its cache of
// prefixes in host memory takes is not its own: that is what models leave.
std::uint64_t Model::cost() const {
    if (!info_) return spec_.memory_bytes;
    auto const promised = info_->resident_bytes == 0 ? info_->memory_bytes
                                                     : info_->resident_bytes + info_->kv_bytes + spec_.scratch_bytes;
    return std::max(promised, stats_.rss_bytes - std::min(stats_.tier_memory_bytes, stats_.rss_bytes));
}

// The pool looks again when the model takes more than it did.
void Model::check_cost() {
    constexpr std::uint64_t kWorthTelling = 1U << 20;
    auto const now = cost();
    if (now < cost_told_ + kWorthTelling) return;
    cost_told_ = now;
    env_.residency->notify();
}

Resident Model::resident() const {
    using State = Resident::State;
    Resident out;
    switch (state_) {
        case ModelState::cold: out.state = wanted_ ? State::loading : State::cold; break;
        case ModelState::starting:
        case ModelState::loading:
        case ModelState::restarting: out.state = State::loading; break;
        case ModelState::ready: out.state = draining_ ? State::draining : State::ready; break;
        case ModelState::unloading: out.state = State::leaving; break;
        case ModelState::failed:
        case ModelState::damaged:
        case ModelState::stopped: out.state = State::failed; break;
    }
    out.cost = cost();
    out.busy = std::ranges::any_of(flights_, [](auto const& flight) { return flight.second->phase != Phase::unsent; });
    out.pinned = spec_.pinned;
    out.wanted_since = wanted_since_;
    out.used = used_;
    out.ready = worker_ ? worker_->ready : Instant{};
    out.keep_alive = idle_limit();
    return out;
}

void Model::want() {
    if (wanted_since_) return;
    wanted_since_ = env_.clock.now();
    env_.residency->notify();
}

void Model::load() {
    wanted_ = true;
    changed_.notify();
}

void Model::let_go() {
    HEARTH_ASSERT(state_ == ModelState::ready && worker_->lost.empty(), "a model that is ready is let go");
    set_state(ModelState::unloading);
    worker_->heard = env_.clock.now();
    worker_->pipe->send(*encode(CloseFrame{}));
    env_.log.info("model is let go", {{"model", spec_.id}, {"bytes", cost()}});
    changed_.notify();
}

// Its worker is: what waits has it loaded again.
void Model::gone() {
    wanted_ = draining_ = leaves_ = false;
    if (flights_.empty()) keep_alive_ = spec_.keep_alive;
    stats_ = {};
    set_state(ModelState::cold);
    env_.residency->notify();
}

void Model::take_name() {
    shown_ = true;
    metrics_.set_state(state_);
    show_load();
}

void Model::lose_name() {
    shown_ = false;
    leaves_ = false;
    retire();
}

void Model::limit_cache(std::optional<std::uint64_t> bytes) {
    cache_limit_ = bytes;
    send_cache_limit();
}

// A little more room is not worth a frame, less always is.
void Model::send_cache_limit() {
    if (state_ != ModelState::ready || spec_.cache_memory_bytes == 0) return;
    auto const wanted = std::min(cache_limit_.value_or(spec_.cache_memory_bytes), spec_.cache_memory_bytes);
    auto const sent = cache_limit_sent_.value_or(spec_.cache_memory_bytes);
    bool const more = wanted > sent + sent / 8 || (wanted > sent && wanted == spec_.cache_memory_bytes);
    if (wanted >= sent && !more) return;
    cache_limit_sent_ = wanted;
    worker_->pipe->send(*encode(LimitCacheFrame{wanted}));
}

void Model::keep(Duration keep_alive) {
    keep_alive_.reset();
    if (keep_alive >= Duration::zero() && keep_alive < kKeepAliveMax) keep_alive_ = keep_alive;
    env_.residency->notify();
}

void Model::unload() {
    if (state_ == ModelState::ready) draining_ = true;
    else if (state_ == ModelState::cold && flights_.empty() && !wanted_) wanted_since_.reset();
    else if (state_ != ModelState::unloading) leaves_ = true;
    env_.residency->notify();
}

std::optional<Duration> Model::idle_limit() const {
    if (!keep_alive_ || asked_) return keep_alive_;
    return std::max(*keep_alive_, kUnaskedMin);
}

std::optional<Duration> Model::idle_left() const {
    auto const limit = idle_limit();
    if (state_ != ModelState::ready || !limit || spec_.pinned) return std::nullopt;
    if (!flights_.empty()) return limit;
    return std::max(used_ + *limit - env_.clock.now(), Duration::zero());
}

}  // namespace hearth::serving
