// Guards for upstream's Jinja engine: limits it does not have itself.
//
// Before parsing: nesting and length of expressions, because its parser and
// interpreter recurse. After parsing: nodes of the tree are replaced or added, so
// that loops, macro recursion and range() have a limit, and a template from a
// hostile file can neither loop for ever nor exhaust the stack. What one operation
// makes of its operands ("x" * n, a filter's width) is not bounded: that memory is
// the worker's, whose end the front survives.
// On the way, names are looked up without copying the table of built-ins, which
// upstream does for each and which takes most of its time.
//
// Private to the module.
#pragma once

#include <jinja/lexer.h>
#include <jinja/runtime.h>

#include "base/result.h"

namespace hearth::llama {

// Fails with `unsupported`, quoting the limit passed.
[[nodiscard]] Status check_template_shape(jinja::lexer_result const& tokens);

// REQUIRES: called once per program, before it runs
void insert_template_guards(jinja::program& program);

// The budget of the renderings on this thread while it lives.
class TemplateBudget {
public:
    TemplateBudget();
    ~TemplateBudget();
    TemplateBudget(TemplateBudget const&) = delete;
    TemplateBudget& operator=(TemplateBudget const&) = delete;
};

}  // namespace hearth::llama
