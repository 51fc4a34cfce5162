;; A core module, with a function of the right name: no component.
(module
  (func (export "pick") (result i32)
    i32.const 0))
