// Whether the model is loaded: what the pool's plan looks at, and what is done about it.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "domain/generate.h"
#include "serving/model.h"
#include "telemetry/log.h"

namespace hearth::serving {
namespace {

// Longer is for ever: an Instant ends some day.
constexpr Duration kKeepAliveMax = std::chrono::hours(24 * 365 * 10);
// Who had a model loaded without a request asks it something within that time.
constexpr Duration kUnaskedMin = std::chrono::seconds(2);

// No request and no worker knows a plain one by its number.
bool is_free(Variant const& variant) { return variant.gone && variant.plain(); }

}  // namespace

// Before it was loaded what its file tells; afterwards what it took when it was ready, and what
// it reserved and had not touched yet; and never less than what it takes now. What its cache of
// prefixes in host memory takes is not its own: that is what models leave.
std::uint64_t Model::cost() const {
    if (!info_) return spec_.memory_bytes;
    auto const measured = info_->resident_bytes == 0 ? info_->memory_bytes
                                                     : info_->resident_bytes + info_->kv_bytes + spec_.scratch_bytes;
    auto const promised = measured + unmeasured_bytes_;
    return std::max(promised, stats_.rss_bytes - std::min(stats_.tier_memory_bytes, stats_.rss_bytes));
}

// As the last time; before the first one as long as it takes to read its weights from a disk. What else a
// loaded model takes, a cache above all, is not read from anywhere.
Duration Model::reload_cost() const {
    constexpr std::uint64_t kReadBytesPerMs = 1U << 20;
    if (load_took_) return *load_took_;
    return std::chrono::milliseconds(static_cast<std::int64_t>(spec_.weights_bytes / kReadBytesPerMs));
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
        case ModelState::loading: out.state = State::loading; break;
        // As long as its last process may be there it is on its way.
        case ModelState::restarting: out.state = worker_ ? State::loading : State::restarting; break;
        case ModelState::ready: out.state = draining_ ? State::draining : State::ready; break;
        case ModelState::unloading: out.state = parking_ == Parking::begins ? State::parking : State::leaving; break;
        case ModelState::parked: out.state = State::parked; break;
        case ModelState::failed:
        case ModelState::damaged:
        case ModelState::stopped: out.state = State::failed; break;
    }
    // One that was parked before takes no more than it did then.
    out.cost = out.state == State::leaving && parking_ == Parking::parked ? parked_cost() : cost();
    bool const can_park = parks_failed_ < kParksFailedMax && !ends_ && !retiring_ && spec_.process_bytes != 0;
    if (can_park || out.state == State::parked || out.state == State::parking) out.parked_cost = parked_cost();
    out.reload_cost = reload_cost();
    out.busy = std::ranges::any_of(flights_, [](auto const& flight) { return flight.second->phase != Phase::unsent; });
    out.pinned = is_pinned() && !retiring_;
    // Nobody waits for one that has no name any more and nothing inside; and one that restarts is not waited for
    // by those who do not ask it.
    bool const nobodys = retiring_ || out.state == State::restarting;
    if (!nobodys || !flights_.empty()) out.wanted_since = wanted_since_;
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

void Model::warm() {
    warmed_ = true;
    want();
}

void Model::forget_wish() {
    wanted_since_.reset();
    warmed_ = false;
}

// Its worker, if there is one, is parked.
void Model::load() {
    wanted_ = true;
    changed_.notify();
    if (state_ != ModelState::parked) return;
    parking_ = Parking::wakes;
    progress_ = 0;
    worker_->launched = worker_->heard = env_.clock.now();
    set_state(ModelState::loading);
    worker_->pipe->send(*encode(WakeFrame{}));
}

void Model::let_go() {
    bool const there = state_ == ModelState::ready || state_ == ModelState::parked;
    HEARTH_ASSERT(there && worker_->lost.empty(), "a model that is ready or parked is let go");
    auto const bytes = charge(resident());
    leave_memory();
    worker_->pipe->send(*encode(CloseFrame{}));
    env_.log.info("model is let go", {{"model", label_}, {"bytes", bytes}});
}

void Model::park() {
    HEARTH_ASSERT(state_ == ModelState::ready && worker_->lost.empty(), "a model that is ready is parked");
    parking_ = Parking::begins;
    leave_memory();
    worker_->pipe->send(*encode(ParkFrame{}));
    env_.log.info("model is parked", {{"model", label_}, {"bytes", cost()}, {"keeps", parked_cost()}});
}

void Model::leave_memory() {
    set_state(ModelState::unloading);
    worker_->heard = env_.clock.now();
    changed_.notify();
}

// Its counters begin anew with its next engine, but for what the process spent.
void Model::handle_parked(ParkedFrame const& parked) {
    if (state_ != ModelState::unloading || parking_ != Parking::begins)
        return lose("broken frame: parked without being told to");
    parking_ = Parking::parked;
    parks_failed_ = 0;
    parked_bytes_ = parked.bytes;
    draining_ = leaves_ = false;
    forget_engine();
    auto const spent = stats_.cpu_ms_total;
    stats_ = {};
    stats_.cpu_ms_total = spent;
    stats_.rss_bytes = parked.bytes;
    if (shown_) metrics_.report(stats_);
    set_state(ModelState::parked);
    env_.residency->notify();
    if (ends_) let_go();
}

// What it kept the last time, or is thought to keep.
std::uint64_t Model::parked_cost() const {
    return parked_bytes_ != 0 ? parked_bytes_ : spec_.process_bytes + spec_.adapter_bytes;
}

// Its worker is: what waits has it loaded again. What unload() left to be answered when the worker was lost is
// answered by the next one, which leaves then.
void Model::gone() {
    bool const lost = state_ == ModelState::restarting;
    leaves_ = leaves_ && lost && !flights_.empty();
    wanted_ = draining_ = ends_ = false;
    starts_failed_ = 0;
    if (flights_.empty()) keep_alive_ = spec_.keep_alive;
    else want();
    stats_ = {};
    set_state(ModelState::cold);
    forget_gone_variants();
    env_.residency->notify();
}

void Model::stand_down() {
    if (state_ != ModelState::restarting || closing_) return;
    if (flights_.empty()) forget_wish();
    if (worker_) cold_next_ = true;  // its end is waited for
    else gone();
    changed_.notify();
}

void Model::stay() {
    draining_ = false;
    wanted_since_.reset();  // of what came meanwhile
    send_unsent();
}

std::optional<Instant> Model::retry_at() const {
    return state_ == ModelState::failed && !suspended_ ? retry_at_ : std::nullopt;
}

bool Model::retry_is_due() const {
    auto const at = retry_at();
    return at && *at <= env_.clock.now();
}

bool Model::try_again() {
    if (!retry_at() || !over_ || closing_ || retiring_) return false;
    problem_.clear();
    revive();
    return true;
}

// REQUIRES: it failed, and is over
void Model::revive() {
    auto const before = starts_failed_ - std::min(starts_failed_, 1U);  // one attempt, not as many as at first
    gone();
    starts_failed_ = before;
    over_ = false;
    env_.loop.spawn(supervise(shared_from_this()));
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
    warmed_ = false;
    if (flights_.empty()) wanted_since_.reset();
    leave_when_answered();
}

void Model::leave_when_answered() {
    bool const idle = flights_.empty();
    bool const away = state_ == ModelState::unloading || (state_ == ModelState::cold && idle && !wanted_);
    if (state_ == ModelState::ready) draining_ = ends_ = true;
    else if (state_ == ModelState::parked && idle) let_go();
    else if (state_ == ModelState::restarting && idle) stand_down();
    else if (parking_ == Parking::begins) ends_ = true;
    else if (!away) leaves_ = true;
    env_.residency->notify();
}

bool Model::has_place_for(Variant const& variant) const {
    bool const reused = variant.plain() && std::ranges::any_of(spec_.variants, is_free);
    return reused || spec_.variants.size() < domain::kAdapterSetsMax;
}

void Model::join(Variant variant) {
    forget_gone_variants();
    if (variant.plain()) {
        auto const place = std::ranges::find_if(spec_.variants, is_free);
        if (place != spec_.variants.end()) *place = std::move(variant);
        else spec_.variants.push_back(std::move(variant));
        return;
    }
    unmeasured_bytes_ += variant.bytes;
    spec_.adapter_bytes += variant.bytes;
    if (spec_.memory_bytes != 0) spec_.memory_bytes += variant.bytes;
    spec_.variants.push_back(std::move(variant));
    bool const stays = state_ != ModelState::unloading || parking_ == Parking::begins;
    bool const runs = worker_ && worker_->lost.empty() && stays;
    if (!runs) return;
    env_.log.info("model is to be loaded again, with more adapters",
                  {{"model", spec_.id}, {"for", spec_.variants.back().id}});
    leave_when_answered();
}

void Model::part(std::string_view id) {
    auto const found =
        std::ranges::find_if(spec_.variants, [&](auto const& each) { return each.id == id && !each.gone; });
    HEARTH_ASSERT(found != spec_.variants.end() && found->joined, "who parts has joined");
    found->gone = true;
    found->pinned = false;
    unmeasured_bytes_ -= std::min(found->bytes, unmeasured_bytes_);
    spec_.adapter_bytes -= found->bytes;
    if (spec_.memory_bytes != 0) spec_.memory_bytes -= found->bytes;
    for (auto const& flight : in_order())
        if (flight->phase == Phase::unsent && wants_what_is_gone(*flight))
            end(flight, domain::Failed{removed(*flight)}, env_.clock.now());
    forget_gone_variants();
    env_.residency->notify();
}

// Once no request and no worker knows sets by their numbers.
void Model::forget_gone_variants() {
    if (!worker_ && flights_.empty()) std::erase_if(spec_.variants, [](auto const& each) { return each.gone; });
}

bool Model::is_pinned() const {
    return spec_.pinned || std::ranges::any_of(spec_.variants, [](auto const& each) { return each.pinned; });
}

std::optional<Duration> Model::idle_limit() const {
    if (!keep_alive_ || asked_) return keep_alive_;
    return std::max(*keep_alive_, kUnaskedMin);
}

std::optional<Duration> Model::idle_left() const {
    auto const limit = idle_limit();
    bool const there = state_ == ModelState::ready || state_ == ModelState::parked;
    if (!there || !limit || is_pinned()) return std::nullopt;
    if (!flights_.empty()) return limit;
    return std::max(used_ + *limit - env_.clock.now(), Duration::zero());
}

}  // namespace hearth::serving
