;; A component that exports an interface of the right name with one of its functions only.
(component
  (core module $module
    (func (export "complete") (param i32 i32 i64))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      i32.const 0)
    (memory (export "memory") 1))
  (core instance $instance (instantiate $module))
  (func $complete (param "completions" (list u32)) (param "now" u64)
    (canon lift (core func $instance "complete")
      (memory (core memory $instance "memory")) (realloc (core func $instance "realloc"))))
  (instance $balancer (export "complete" (func $complete)))
  (export "sluice:plugin/balancer@0.1.0" (instance $balancer)))
