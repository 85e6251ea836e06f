// An error that nobody looks at does not compile (warnings are errors in every target of ours).
#include "base/result.h"

namespace hearth {

Status save();
Result<int> count();

Status keeps_both() {
    HEARTH_CHECK(save());
    HEARTH_TRY(int const n, count());
    return n > 0 ? ok() : save();
}

void drops_both() {
    save();   // expected-warning {{ignoring return value}}
    count();  // expected-warning {{ignoring return value}}
}

}  // namespace hearth
