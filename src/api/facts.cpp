#include "api/facts.h"

#include <memory>
#include <utility>

namespace hearth::api {
namespace {

// What the reader's thread says, carried over to the loop.
struct Answered {
    explicit Answered(net::Loop& loop) : signal(loop) {}
    net::Signal signal;
    models::FactsPointer facts;
};

}  // namespace

net::Task<models::FactsPointer> facts_of(Services& services, std::string path, models::FactsReader::Depth depth,
                                         Duration patience) {
    if (services.facts == nullptr || path.empty()) co_return nullptr;
    auto const answered = std::make_shared<Answered>(services.loop);
    // The loop's things are let go on the loop's thread, whoever gives up first.
    services.facts->read(std::move(path), depth,
                         [&loop = services.loop, held = answered](Result<models::FactsPointer> facts) mutable {
                             loop.post([facts = facts ? *facts : nullptr, held = std::move(held)] {
                                 held->facts = facts;
                                 held->signal.notify();
                             });
                         });
    static_cast<void>(co_await answered->signal.wait_for(patience));
    co_return answered->facts;
}

}  // namespace hearth::api
